"""Which conversations are trained on: drawn by task, one image each, with what is perceived before each answer."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import attrs
import numpy as np
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.data.tasks import TaskTable
from perceptio.errors import DataError
from perceptio.interfaces import Codes, Sample, Task, Turn
from perceptio.recipe import Recipe

Levels = Mapping[int, Mapping[tuple[float, float], int]]
"""Of a folder's images with marked points, by number, the level of each point (x, y)."""

_READABLE, _WITH_CODES, _WITH_OBJECTS = "readable", "with codes", "with objects"
"""The pools of images with codes to be read out: those with a marked-point question, and all of them; and of images
with a question about objects."""


class ConversationSampler:
    """Draws conversations for a recipe from folders of data.

    A conversation is drawn for a task (by `data.mixture`), from an image that has a turn of it (folders by weight);
    further turns of the same image fill it to `data.turns`. A draw depends on the seed and its number alone, so that
    a resumed run sees what it would have seen, and draws can be made in any order and by several threads.

    Args:
        recipe: Whose data settings apply.
        datasets: The opened folders, in the order of `recipe.data.folders`.
        codes: Of each stream that is written as codes once per image, the codes [n, L] of each folder's images, of
            any integer type, -1 rows where an image has none.
        levels: Of each folder the levels of marked points, where the recipe has `point_values`.

    Raises:
        DataError: The mixture names a task of which no folder has a turn, or extra samples are asked for that no
            image can give.
    """

    def __init__(
        self,
        recipe: Recipe,
        datasets: Sequence[FolderDataset],
        codes: Mapping[str, Sequence[Tensor]],
        levels: Sequence[Levels] = (),
    ) -> None:
        self.recipe, self.datasets, self.codes, self.levels = recipe, datasets, codes, levels
        assert recipe.point_values is None or len(levels) == len(datasets), "Each folder needs its levels."
        self.data, self.readout = recipe.data, recipe.plan.readout
        self._tasks = TaskTable(recipe)
        self._specs = {stream.name: stream.spec for stream in recipe.streams}
        self._per_image = [name for name, spec in self._specs.items() if spec.per == "image"]
        # Of objects that the language model does not see only these can be written: decoding looks at the image.
        self._prompts = tuple(
            name
            for name, spec in self._specs.items()
            if spec.per == "object" and not self._is_codes(name) and spec.image_size is not None
        )
        self._pools: dict[str, list[np.ndarray]] = {}
        self._pointed = images_with_points(recipe, datasets)
        weights = {
            name: weight
            for name, weight in self.data.mixture.items()
            if weight > 0 and not (self.data.perceive == "never" and self._tasks[name].perception_only)
        }
        for name in weights:
            self._add_pool(
                name,
                [self._images_with(name, folder) for folder in range(len(datasets))],
                f"The mixture asks for {name!r} and no folder has such a turn: {', '.join(self._known())}.",
            )
        self._add_pools_of_codes(any(self._tasks[name].reads_points for name in weights))
        self._add_pool_of_objects()
        self.names = list(weights)
        self._weights = np.array([weights[name] for name in self.names]) / sum(weights.values())
        self._pointed_numbers = [set(images.tolist()) for images in self._pointed]

    def draw(self, number: int, count: int) -> list[Sample]:
        """The conversations of a draw, followed by its text-only samples and its images without text."""
        random = np.random.default_rng((self.recipe.train.seed, number))
        samples = [self._conversation(random) for _ in range(count)]
        if self.recipe.answer_format != "direct" and any(
            self._tasks[name].reads_points for name in self.names
        ):
            samples += [
                self._text_only_readout(random)
                for _ in range(auxiliary_count(self.data.text_only_readout, number, count))
            ]
            samples += [
                self._text_only_comparison(random)
                for _ in range(auxiliary_count(self.data.text_only_comparison, number, count))
            ]
        samples += [
            self._text_only_referring(random)
            for _ in range(auxiliary_count(self.data.text_only_referring, number, count))
        ]
        return samples + [
            self._vision_only(random) for _ in range(auxiliary_count(self.data.vision_only, number, count))
        ]

    def _conversation(self, random: np.random.Generator) -> Sample:
        name = self.names[random.choice(len(self.names), p=self._weights)]
        folder, number = self._image_for(name, random)
        sample = self.datasets[folder][number]
        turns = self._usable(sample.turns, folder, number)
        if self._tasks[name].writes_turns:
            lead, others = self._tasks[name].own_turn(name, sample), turns
        else:
            leads = [turn for turn in turns if turn.task == name]
            lead = leads[random.integers(len(leads))]
            others = [turn for turn in turns if turn is not lead]
        picked = [others[i] for i in random.permutation(len(others))]
        if self.recipe.points == "drawn":
            picked = _one_with_points([lead, *picked])[1:]
        chosen = [lead, *picked[: self.data.turns - 1]]
        chosen = [chosen[i] for i in random.permutation(len(chosen))]
        # What is answered from a stream comes last: objects are found sooner, in training, by a model that need not
        # look past a block of codes.
        chosen.sort(key=lambda turn: _order(self._tasks[turn.task]))
        sample = attrs.evolve(sample, codes=self._codes(folder, number))
        perceived = self._perceived(
            chosen, sample, self._written(chosen, sample, random), self._levels(folder, number), random
        )
        return attrs.evolve(sample, turns=tuple(perceived))

    def _written(self, turns: Sequence[Turn], sample: Sample, random: np.random.Generator) -> list[str]:
        """The streams that a conversation writes once for its image, in order."""
        if self.data.perceive == "never":
            return []
        known = [
            name
            for name in self._per_image
            if (name in sample.codes if self._is_codes(name) else sample.has_target(self._specs[name].target))
        ]
        if self.data.streams == "all":
            return known
        kept = {name for name in known if random.random() < 0.5}
        kept |= {name for task in self._tasks_of(turns) if task.perception_only for name in task.required}
        return [name for name in known if name in kept]

    def _perceived(
        self,
        turns: Sequence[Turn],
        sample: Sample,
        written: Sequence[str],
        levels: Mapping[tuple[float, float], int],
        random: np.random.Generator,
    ) -> list[Turn]:
        """The turns with what is perceived before each answer, marks shuffled, and what is said of them."""
        mode = self.data.perceive
        before = {name: self._turn_of(name, turns) for name in written} if mode == "before" else {}
        result = []
        for number, turn in enumerate(turns):
            task = self._tasks[turn.task]
            if mode == "separate_task" and task.writes_turns and task.perception_only:
                continue
            about_objects = mode != "never" and task.about_objects and bool(turn.masks)
            turn = self._shuffled(turn, random)
            perceive = tuple(
                name
                for name, spec in self._specs.items()
                if (about_objects if spec.per == "object" else before.get(name) == number)
            )
            turn = attrs.evolve(turn, perceive=perceive)
            if task.reads_points and self.readout in sample.codes and self._can_speak_of(number, before):
                turn = self._with_readout(turn, levels)
            result.append(turn)
        if mode == "separate_task":
            result += [self._own_turn(name, sample) for name in written]
        return result

    def _can_speak_of(self, number: int, before: Mapping[str, int | None]) -> bool:
        """Whether something is said of the marked points of a turn, given before which turns streams are written."""
        if not self.recipe.looks_up_what_is_written:
            return self.recipe.answer_format != "direct"
        block = before.get(self.readout or "")
        return block is not None and block <= number

    def _with_readout(self, turn: Turn, levels: Mapping[tuple[float, float], int]) -> Turn:
        """A turn of whose points the codes are said, or else the levels, if all are known."""
        if self.recipe.point_values is None:
            return attrs.evolve(turn, readout=True)
        if not all(point in levels for point in turn.points):
            return turn
        return attrs.evolve(turn, readout=True, levels=tuple(levels[point] for point in turn.points))

    def _levels(self, folder: int, number: int) -> Mapping[tuple[float, float], int]:
        """The levels of an image's marked points; none where the recipe has no `point_values`."""
        return self.levels[folder].get(number, {}) if self.levels else {}

    def _turn_of(self, stream: str, turns: Sequence[Turn]) -> int | None:
        """Which turn a stream is written before: the first that requires it, or else the last that may have it."""
        tasks = self._tasks_of(turns)
        requiring = [number for number, task in enumerate(tasks) if stream in task.required]
        possible = [number for number, task in enumerate(tasks) if task.may_perceive]
        return requiring[0] if requiring else possible[-1] if possible else None

    def _own_turn(self, stream: str, sample: Sample) -> Turn:
        name = self._tasks.of_stream(stream)
        return attrs.evolve(self._tasks[name].own_turn(name, sample), perceive=(stream,))

    def _text_only_readout(self, random: np.random.Generator) -> Sample:
        """The marked-point questions of an image that is not shown, after its block of codes: text alone."""
        turns, codes = self._marked(random)
        assert self.readout is not None
        chosen = turns[: self.data.turns]
        first = attrs.evolve(chosen[0], perceive=(self.readout,))
        return Sample(turns=(first, *chosen[1:]), codes=codes)

    def _text_only_comparison(self, random: np.random.Generator) -> Sample:
        """A marked-point question with what is said of its points, and neither image nor block: text alone."""
        turns, codes = self._marked(random)
        return Sample(turns=(turns[0],), codes=codes)

    def _text_only_referring(self, random: np.random.Generator) -> Sample:
        """Questions about objects of an image that only decoding sees, with its codes; without text if none has any.

        That an object is absent cannot be known without the image: such questions are left out.
        """
        folder, number = self._image_for(_WITH_OBJECTS, random)
        sample = self.datasets[folder][number]
        turns = [turn for turn in sample.turns if self._tasks[turn.task].about_objects and turn.masks]
        chosen = [turns[i] for i in random.permutation(len(turns))[: self.data.turns]]
        perceived = tuple(attrs.evolve(turn, perceive=self._prompts) for turn in chosen)
        return attrs.evolve(sample, turns=perceived, codes=self._codes(folder, number), in_context=False)

    def _marked(self, random: np.random.Generator) -> tuple[list[Turn], Mapping[str, Tensor]]:
        """The marked-point questions of one image, in some order and to be read out, and the image's codes."""
        folder, number = self._image_for(_READABLE, random)
        turns = [turn for turn in self.datasets[folder].turns(number) if self._tasks[turn.task].reads_points]
        turns = [self._shuffled(turns[i], random) for i in random.permutation(len(turns))]
        levels = self._levels(folder, number)
        return [self._with_readout(turn, levels) for turn in turns], self._codes(folder, number)

    def _vision_only(self, random: np.random.Generator) -> Sample:
        """An image without text, with its codes."""
        folder, number = self._image_for(_WITH_CODES, random)
        image_3HW = self.datasets[folder].image(number)
        return Sample(turns=(), image_3HW=image_3HW, codes=self._codes(folder, number))

    def _codes(self, folder: int, number: int) -> dict[str, Tensor]:
        """The codes of an image, int64 [L], of every stream that it has any of."""
        rows = {name: codes[folder][number] for name, codes in self.codes.items()}
        return {name: codes_L.long() for name, codes_L in rows.items() if int(codes_L[0]) >= 0}

    def _usable(self, turns: Sequence[Turn], folder: int, number: int) -> list[Turn]:
        pointed, never = number in self._pointed_numbers[folder], self.data.perceive == "never"
        return [
            turn
            for turn, task in zip(turns, self._tasks_of(turns), strict=True)
            if (pointed or not task.reads_points) and not (never and task.perception_only)
        ]

    def _shuffled(self, turn: Turn, random: np.random.Generator) -> Turn:
        if not self.data.permute_marks:
            return turn
        return self._tasks[turn.task].with_points_shuffled(turn, random)

    def _tasks_of(self, turns: Sequence[Turn]) -> list[Task]:
        return [self._tasks[turn.task] for turn in turns]

    def _image_for(self, pool: str, random: np.random.Generator) -> tuple[int, int]:
        pools = self._pools[pool]
        weights = np.array(
            [f.weight if len(images) else 0.0 for f, images in zip(self.data.folders, pools, strict=True)]
        )
        folder = int(random.choice(len(pools), p=weights / weights.sum()))
        return folder, int(pools[folder][random.integers(len(pools[folder]))])

    def _add_pool(self, name: str, folders: list[np.ndarray], missing: str) -> None:
        """Keep which images of each folder are drawn from, and say what is missing where there is none."""
        if not any(len(images) for images in folders):
            raise DataError(missing)
        self._pools[name] = folders

    def _add_pools_of_codes(self, reads_points: bool) -> None:
        """The images of extra samples, which are about the codes that are read out."""
        data, stream, folders = self.data, self.readout, range(len(self.datasets))
        with_codes = [
            np.zeros(0, dtype=np.int64) if stream is None else self._images_with_stream(stream, folder)
            for folder in folders
        ]
        of = "a stream with a grid" if stream is None else f"the stream {stream!r}"
        if data.vision_only:
            missing = f"data.vision_only trains on the codes of {of}, and no image of any folder has them."
            self._add_pool(_WITH_CODES, with_codes, missing)
        if (data.text_only_readout or data.text_only_comparison) and reads_points and stream in self.codes:
            both = [
                np.intersect1d(self._pointed[folder], with_codes[folder], assume_unique=True)
                for folder in folders
            ]
            missing = (
                f"data.text_only_readout and data.text_only_comparison need codes of {of}, and no image with marked "
                "points has them."
            )
            self._add_pool(_READABLE, both, missing)

    def _add_pool_of_objects(self) -> None:
        """The images of `data.text_only_referring`."""
        if not self.data.text_only_referring:
            return
        if not self._prompts or self.data.perceive == "never":
            raise DataError(
                "data.text_only_referring trains special tokens of objects that are decoded with the image, and "
                "the recipe writes none: set it to 0."
            )
        about = {name for name in self._known() if self._tasks[name].about_objects}
        images = [
            np.array(
                [i for i, names in enumerate(dataset.tasks) if not about.isdisjoint(names)], dtype=np.int64
            )
            for dataset in self.datasets
        ]
        missing = "data.text_only_referring asks for turns about objects, and no folder has any: set it to 0."
        self._add_pool(_WITH_OBJECTS, images, missing)

    def _images_with(self, name: str, folder: int) -> np.ndarray:
        """The images that have a turn of a task, or all that its own turn needs."""
        task, tasks = self._tasks[name], self.datasets[folder].tasks
        if task.writes_turns:
            having = [self._images_with_stream(stream, folder) for stream in task.required]
            images = having[0] if having else np.arange(len(tasks))
            for others in having[1:]:
                images = np.intersect1d(images, others, assume_unique=True)
            return images
        candidates = self._pointed[folder] if task.reads_points else range(len(tasks))
        return np.array([i for i in candidates if name in tasks[i]], dtype=np.int64)

    def _images_with_stream(self, name: str, folder: int) -> np.ndarray:
        """The images of which a stream can be written, once per image."""
        if name not in self._per_image or (self._is_codes(name) and name not in self.codes):
            return np.zeros(0, dtype=np.int64)
        if self._is_codes(name):
            return np.flatnonzero((self.codes[name][folder][:, 0] >= 0).numpy())
        target, records = self._specs[name].target, self.datasets[folder].records
        return np.flatnonzero([record.has_target(target) for record in records])

    def _is_codes(self, stream: str) -> bool:
        return isinstance(self._specs[stream].written, Codes)

    def _known(self) -> list[str]:
        """The names of all tasks that a folder has a turn of."""
        return sorted(_tasks_in(self.datasets))


def images_with_points(recipe: Recipe, datasets: Sequence[FolderDataset]) -> list[np.ndarray]:
    """The images of each folder whose marked-point questions are used: the first `data.max_questions` in all."""
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
    """The names of all tasks that a folder has a turn of."""
    return {name for dataset in datasets for names in dataset.tasks for name in names}


def auxiliary_count(rate: float, number: int, count: int) -> int:
    """How many extra samples follow the `count` conversations of a draw, at `rate` of them per conversation.

    What is less than one is carried over to the next draw: after n draws there have been floor(n * rate * count).
    """
    per_draw = Fraction(str(rate)) * count  # As written: 0.29 * 100 is 29, and not a little less.
    return math.floor((number + 1) * per_draw) - math.floor(number * per_draw)


def _order(task: Task) -> int:
    """The place of a task in a conversation: what requires a stream is last, and before it what only writes it."""
    return 0 if not task.required else 1 if task.perception_only else 2


def _one_with_points(turns: Sequence[Turn]) -> list[Turn]:
    """The turns without points, and of those with points the first: drawn on one image, two would share letters."""
    first = next((turn for turn in turns if turn.points), None)
    return [turn for turn in turns if not turn.points or turn is first]
