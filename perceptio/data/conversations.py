"""Which conversations are trained on: drawn by task, one image each, with what is perceived before each answer."""

import math
from collections.abc import Sequence
from fractions import Fraction

import attrs
import numpy as np
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.interfaces import Sample, Turn
from perceptio.recipe import Recipe
from perceptio.vocabulary import LETTERS

MARKED = "relative_depth"
DEPTH_TASKS = frozenset({MARKED, "referring", "depth_map"})
"""Tasks whose answer may be preceded by a depth block; a plain question is answered at once."""
_READS_BLOCK = {"depth_map": 1, MARKED: 2}
"""Tasks whose answer is nothing without the block, and their place in a conversation: after all others."""
_READABLE = "readable"
"""The pool of images with a marked-point question and depth."""
DEPTH_MAP_QUESTION = "What is the depth map of this image?"
DEPTH_MAP_ANSWER = "Done."


class ConversationSampler:
    """Draws conversations for a recipe from folders of data.

    A conversation is drawn for a task (by `data.mixture`), from an image that has a turn of it (folders by weight);
    further turns of the same image fill it to `data.turns`. A draw depends on the seed and its number alone, so that
    a resumed run sees what it would have seen, and draws can be made in any order and by several threads.

    Args:
        recipe: Whose data settings apply.
        datasets: The opened folders, in the order of `recipe.data.folders`.
        codes: Depth codes [n, L] of each folder's images, of any integer type, -1 rows where an image has no depth;
            None without depth.

    Raises:
        DataError: The mixture names a task of which no folder has a turn.
    """

    def __init__(
        self, recipe: Recipe, datasets: Sequence[FolderDataset], codes: Sequence[Tensor] | None
    ) -> None:
        self.recipe, self.datasets, self.codes = recipe, datasets, codes
        self.data = recipe.data
        self._pools: dict[str, list[np.ndarray]] = {}
        labelled = self._labelled_images()
        tasks = {task: weight for task, weight in self.data.mixture.items() if weight > 0}
        if self.data.perceive == "never":
            tasks = {task: weight for task, weight in tasks.items() if task not in ("referring", "depth_map")}
        for task in tasks:
            self._add_pool(
                task,
                [self._images_with(task, d, labelled[d]) for d in range(len(datasets))],
                f"The mixture asks for {task!r} and no folder has such a turn: {self._known()}.",
            )
        if self.data.vision_only and "depth_map" not in tasks:
            self._add_pool(
                "depth_map",
                [self._images_with("depth_map", d, labelled[d]) for d in range(len(datasets))],
                "data.vision_only trains on depth codes, and no folder has an image with depth.",
            )
        text_only = self.data.text_only_readout or self.data.text_only_comparison
        if text_only and MARKED in tasks and codes is not None:
            self._add_pool(
                _READABLE,
                [pool[codes[d][pool, 0].numpy() >= 0] for d, pool in enumerate(labelled)],
                "data.text_only_readout and data.text_only_comparison need depth, and no image with a "
                "relative_depth turn has it.",
            )
        self.tasks = list(tasks)
        self.task_weights = np.array([tasks[task] for task in self.tasks]) / sum(tasks.values())
        self._labelled = [set(pool.tolist()) for pool in labelled]

    def draw(self, number: int, count: int) -> list[Sample]:
        """The conversations of a draw, followed by its text-only samples and its images without text."""
        random = np.random.default_rng((self.recipe.train.seed, number))
        samples = [self._conversation(random) for _ in range(count)]
        if self.recipe.answer_format == "readout" and MARKED in self.tasks:
            samples += [
                self._text_only_readout(random)
                for _ in range(auxiliary_count(self.data.text_only_readout, number, count))
            ]
            samples += [
                self._text_only_comparison(random)
                for _ in range(auxiliary_count(self.data.text_only_comparison, number, count))
            ]
        return samples + [
            self._vision_only(random) for _ in range(auxiliary_count(self.data.vision_only, number, count))
        ]

    def _conversation(self, random: np.random.Generator) -> Sample:
        task = self.tasks[random.choice(len(self.tasks), p=self.task_weights)]
        folder, number = self._image_for(task, random)
        sample = self.datasets[folder][number]
        turns = self._usable(sample.turns, folder, number)
        if task == "depth_map":
            lead, others = Turn(question=DEPTH_MAP_QUESTION, answer=DEPTH_MAP_ANSWER, task=task), turns
        else:
            leads = [turn for turn in turns if turn.task == task]
            lead = leads[random.integers(len(leads))]
            others = [turn for turn in turns if turn is not lead]
        picked = [others[i] for i in random.permutation(len(others))]
        if self.recipe.points == "drawn":
            picked = _one_with_points([lead, *picked])[1:]
        chosen = [lead, *picked[: self.data.turns - 1]]
        chosen = [chosen[i] for i in random.permutation(len(chosen))]
        # Objects are found sooner, in training, by who need not look past a depth block.
        chosen.sort(key=lambda turn: _READS_BLOCK.get(turn.task, 0))
        codes = self._codes(folder, number)
        perceived = self._perceived(chosen, codes is not None, random)
        return attrs.evolve(sample, turns=tuple(perceived), depth_codes_L=codes)

    def _perceived(self, turns: list[Turn], has_depth: bool, random: np.random.Generator) -> list[Turn]:
        """The turns with what is perceived before each answer, and marks shuffled."""
        mode, order = self.data.perceive, self.recipe.order
        block = _turn_with_block(turns) if mode == "before" and has_depth else None
        result = []
        for number, turn in enumerate(turns):
            if turn.task == "depth_map" and mode == "separate_task":
                continue
            streams = ["segmentation"] if turn.task == "referring" and turn.masks and mode != "never" else []
            if number == block:
                streams.append("depth")
            turn = self._marked_anew(turn, random)
            readout = self.recipe.answer_format == "readout" and turn.task == MARKED and has_depth
            result.append(
                attrs.evolve(turn, perceive=tuple(one for one in order if one in streams), readout=readout)
            )
        if mode == "separate_task" and has_depth and "depth" in order:
            result.append(
                Turn(
                    question=DEPTH_MAP_QUESTION,
                    answer=DEPTH_MAP_ANSWER,
                    task="depth_map",
                    perceive=("depth",),
                )
            )
        return result

    def _text_only_readout(self, random: np.random.Generator) -> Sample:
        """The marked-point questions of an image that is not shown, after its depth block: text alone."""
        turns, codes_L = self._marked(random)
        chosen = turns[: self.data.turns]
        return Sample(
            turns=tuple(
                attrs.evolve(turn, perceive=() if n else ("depth",)) for n, turn in enumerate(chosen)
            ),
            depth_codes_L=codes_L,
        )

    def _text_only_comparison(self, random: np.random.Generator) -> Sample:
        """A marked-point question with the codes read out for it, and neither image nor block: text alone."""
        turns, codes_L = self._marked(random)
        return Sample(turns=(turns[0],), depth_codes_L=codes_L)

    def _marked(self, random: np.random.Generator) -> tuple[list[Turn], Tensor | None]:
        """The marked-point questions of one image, in some order and to be read out, and its depth codes."""
        folder, number = self._image_for(_READABLE, random)
        turns = [turn for turn in self.datasets[folder].turns(number) if turn.task == MARKED]
        turns = [self._marked_anew(turns[i], random) for i in random.permutation(len(turns))]
        return [attrs.evolve(turn, readout=True) for turn in turns], self._codes(folder, number)

    def _vision_only(self, random: np.random.Generator) -> Sample:
        """An image without text, with its depth codes."""
        folder, number = self._image_for("depth_map", random)
        return Sample(
            turns=(),
            image_3HW=self.datasets[folder].image(number),
            depth_codes_L=self._codes(folder, number),
        )

    def _codes(self, folder: int, number: int) -> Tensor | None:
        """The depth codes of an image, int64 [L]; None where it has no depth."""
        if self.codes is None or int(self.codes[folder][number, 0]) < 0:
            return None
        return self.codes[folder][number].long()

    def _usable(self, turns: Sequence[Turn], folder: int, number: int) -> list[Turn]:
        labelled = number in self._labelled[folder]
        keep_masks = self.data.perceive != "never"
        return [
            turn
            for turn in turns
            if (labelled or turn.task != MARKED) and (keep_masks or turn.task != "referring")
        ]

    def _marked_anew(self, turn: Turn, random: np.random.Generator) -> Turn:
        """The same question with its points in another order, and the answer's letter with them."""
        if not self.data.permute_marks or turn.task != MARKED or not turn.points:
            return turn
        order = random.permutation(len(turn.points)).tolist()
        right = LETTERS.index(turn.answer.strip("()"))
        answer = f"({LETTERS[order.index(right)]})"
        return attrs.evolve(turn, points=tuple(turn.points[i] for i in order), answer=answer)

    def _image_for(self, task: str, random: np.random.Generator) -> tuple[int, int]:
        pools = self._pools[task]
        weights = np.array(
            [f.weight if len(pool) else 0.0 for f, pool in zip(self.data.folders, pools, strict=True)]
        )
        folder = int(random.choice(len(pools), p=weights / weights.sum()))
        return folder, int(pools[folder][random.integers(len(pools[folder]))])

    def _add_pool(self, name: str, folders: list[np.ndarray], missing: str) -> None:
        """Keep which images of each folder are drawn from, and say what is missing where there is none."""
        if not any(len(images) for images in folders):
            raise DataError(missing)
        self._pools[name] = folders

    def _labelled_images(self) -> list[np.ndarray]:
        """The images of each folder whose marked-point questions are used: the first `max_questions` in all."""
        room = self.data.max_questions
        result = []
        for dataset in self.datasets:
            images = np.array([i for i, tasks in enumerate(dataset.tasks) if MARKED in tasks], dtype=np.int64)
            images = images if room is None else images[: max(room, 0)]
            room = None if room is None else room - len(images)
            result.append(images)
        return result

    def _images_with(self, task: str, folder: int, labelled: np.ndarray) -> np.ndarray:
        if task == MARKED:
            return labelled
        if task == "depth_map":
            has = (
                (self.codes[folder][:, 0] >= 0).numpy() if self.codes is not None else np.zeros(0, dtype=bool)
            )
            return np.flatnonzero(has)
        return np.array(
            [i for i, tasks in enumerate(self.datasets[folder].tasks) if task in tasks], dtype=np.int64
        )

    def _known(self) -> str:
        return ", ".join(
            sorted({task for dataset in self.datasets for tasks in dataset.tasks for task in tasks})
        )


def auxiliary_count(rate: float, number: int, count: int) -> int:
    """How many extra samples follow the `count` conversations of a draw, at `rate` of them per conversation.

    What is less than one is carried over to the next draw: after n draws there have been floor(n * rate * count).
    """
    per_draw = Fraction(str(rate)) * count  # As written: 0.29 * 100 is 29, and not a little less.
    return math.floor((number + 1) * per_draw) - math.floor(number * per_draw)


def _one_with_points(turns: Sequence[Turn]) -> list[Turn]:
    """The turns without points, and of those with points the first: drawn on one image, two would share letters."""
    first = next((turn for turn in turns if turn.points), None)
    return [turn for turn in turns if not turn.points or turn is first]


def _turn_with_block(turns: Sequence[Turn]) -> int | None:
    """Which turn has the depth block: the first that reads it, or else the last that may have it."""
    reading = [number for number, turn in enumerate(turns) if turn.task in _READS_BLOCK]
    possible = [number for number, turn in enumerate(turns) if turn.task in DEPTH_TASKS]
    return reading[0] if reading else possible[-1] if possible else None
