"""The images of the folders from which conversations and extra samples are drawn."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.data.tasks import TaskTable
from perceptio.errors import DataError
from perceptio.interfaces import Codes, StreamSpec
from perceptio.recipe import Recipe

READABLE, WITH_CODES, WITH_OBJECTS = "readable", "with codes", "with objects"
"""Pools of images: with codes and a marked-point question; with codes; and with a question about objects."""


class ImagePools:
    """For each task, and for each kind of extra sample that a recipe requests, the images that it can be about.

    Args:
        recipe: The recipe whose data settings apply.
        datasets: The opened folders, in the order of `recipe.data.folders`.
        codes: See `perceptio.data.conversations.ConversationSampler`.
        tasks: The tasks that conversations are drawn for; each has a pool of its name.

    Attributes:
        per_image: The streams that are written once per image.
        prompts: The streams of objects that can be written without the language model seeing the image, because only
            decoding looks at it.
        pointed: The images of each folder whose marked-point questions are used.

    Raises:
        DataError: No folder has a turn of a task, or extra samples are requested that no image can provide.
    """

    def __init__(
        self,
        recipe: Recipe,
        datasets: Sequence[FolderDataset],
        codes: Mapping[str, Sequence[Tensor]],
        tasks: Sequence[str],
    ) -> None:
        self._recipe, self._datasets, self._codes = recipe, datasets, codes
        self._tasks = TaskTable(recipe)
        self._specs = {stream.name: stream.spec for stream in recipe.streams}
        self.per_image = [name for name, spec in self._specs.items() if spec.per == "image"]
        self.prompts = tuple(
            name
            for name, spec in self._specs.items()
            if spec.per == "object" and not is_codes(spec) and spec.image_size is not None
        )
        self.pointed = images_with_points(recipe, datasets)
        self._pools: dict[str, list[np.ndarray]] = {}
        known = ", ".join(sorted(_tasks_in(datasets)))
        for name in tasks:
            self._add(
                name,
                [self._images_with(name, folder) for folder in range(len(datasets))],
                f"The mixture asks for {name!r} and no folder has such a turn: {known}.",
            )
        self._add_of_codes(any(self._tasks[name].reads_points for name in tasks))
        self._add_of_objects()

    def draw(self, pool: str, random: np.random.Generator) -> tuple[int, int]:
        """Return the folder and the number of an image; folders are drawn by their weights."""
        folders, pools = self._recipe.data.folders, self._pools[pool]
        weights = np.array(
            [f.weight if len(images) else 0.0 for f, images in zip(folders, pools, strict=True)]
        )
        folder = int(random.choice(len(pools), p=weights / weights.sum()))
        return folder, int(pools[folder][random.integers(len(pools[folder]))])

    def _add(self, name: str, folders: list[np.ndarray], missing: str) -> None:
        """Store the images of each folder for a pool; raise an error with the message `missing` if there are none."""
        if not any(len(images) for images in folders):
            raise DataError(missing)
        self._pools[name] = folders

    def _add_of_codes(self, reads_points: bool) -> None:
        """Add the images of extra samples about written codes."""
        data, stream = self._recipe.data, self._recipe.plan.readout
        folders = range(len(self._datasets))
        with_codes = [
            np.zeros(0, dtype=np.int64) if stream is None else self._images_with_stream(stream, folder)
            for folder in folders
        ]
        of = "a stream with a grid" if stream is None else f"the stream {stream!r}"
        if data.vision_only:
            missing = f"data.vision_only trains on the codes of {of}, and no image of any folder has them."
            self._add(WITH_CODES, with_codes, missing)
        if (data.text_only_readout or data.text_only_comparison) and reads_points and stream in self._codes:
            both = [
                np.intersect1d(self.pointed[folder], with_codes[folder], assume_unique=True)
                for folder in folders
            ]
            missing = (
                f"data.text_only_readout and data.text_only_comparison need codes of {of}, and no image with marked "
                "points has them."
            )
            self._add(READABLE, both, missing)

    def _add_of_objects(self) -> None:
        """Add the images of `data.text_only_referring`."""
        if not self._recipe.data.text_only_referring:
            return
        if not self.prompts or self._recipe.data.perceive == "never":
            raise DataError(
                "data.text_only_referring trains special tokens of objects that are decoded with the image, and "
                "the recipe writes none: set it to 0."
            )
        about = {name for name in _tasks_in(self._datasets) if self._tasks[name].about_objects}
        images = [
            np.array(
                [i for i in dataset.with_target("image") if not about.isdisjoint(dataset.tasks[i])],
                dtype=np.int64,
            )
            for dataset in self._datasets
        ]
        missing = "data.text_only_referring asks for turns about objects, and no folder has any: set it to 0."
        self._add(WITH_OBJECTS, images, missing)

    def _images_with(self, name: str, folder: int) -> np.ndarray:
        """Return the images that have a turn of a task, or everything that its own turn needs."""
        task, tasks = self._tasks[name], self._datasets[folder].tasks
        if task.writes_turns:
            having = [self._images_with_stream(stream, folder) for stream in task.required]
            images = self._datasets[folder].with_target("image")
            for others in having:
                images = np.intersect1d(images, others, assume_unique=True)
            return images
        candidates = self.pointed[folder] if task.reads_points else range(len(tasks))
        return np.array([i for i in candidates if name in tasks[i]], dtype=np.int64)

    def _images_with_stream(self, name: str, folder: int) -> np.ndarray:
        """Return the images for which a stream can be written, once per image."""
        if name not in self.per_image or (is_codes(self._specs[name]) and name not in self._codes):
            return np.zeros(0, dtype=np.int64)
        if is_codes(self._specs[name]):
            return np.flatnonzero((self._codes[name][folder][:, 0] >= 0).numpy())
        return self._datasets[folder].with_target(self._specs[name].target)


def is_codes(spec: StreamSpec) -> bool:
    """Return whether a stream is written as codes."""
    return isinstance(spec.written, Codes)


def images_with_points(recipe: Recipe, datasets: Sequence[FolderDataset]) -> list[np.ndarray]:
    """Return the images of each folder whose marked-point questions are used: the first `max_questions` in all."""
    tasks, room = TaskTable(recipe), recipe.data.max_questions
    pointed = {name for name in _tasks_in(datasets) if tasks[name].reads_points}
    result = []
    for dataset in datasets:
        images = np.array(
            [i for i, names in enumerate(dataset.tasks) if not pointed.isdisjoint(names)], dtype=np.int64
        )
        images = images if room is None else images[: max(room, 0)]
        room = None if room is None else room - len(images)
        result.append(images)
    return result


def _tasks_in(datasets: Sequence[FolderDataset]) -> set[str]:
    """Return the names of all tasks of which a folder has a turn."""
    return {name for dataset in datasets for names in dataset.tasks for name in names}
