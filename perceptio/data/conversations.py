"""Sampling of training conversations: drawn by task, one image each, with streams before answers that need them."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import attrs
import numpy as np
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.data.image_pools import READABLE, WITH_CODES, WITH_OBJECTS, ImagePools, is_codes
from perceptio.data.tasks import TaskTable
from perceptio.interfaces import Sample, Task, Turn
from perceptio.recipe import Recipe

Levels = Mapping[int, Mapping[tuple[float, float], int]]
"""For each image with marked points, by number, the level at each point (x, y)."""


class ConversationSampler:
    """Draws conversations for a recipe from data folders.

    A conversation is drawn for a task (by `data.mixture`), from an image that has a turn of this task (folders by
    weight). Further turns of the same image fill it up to `data.turns`. A draw depends only on the seed and its
    number, so a resumed run sees the same data, and threads can make draws in any order.

    An ordered sample is one conversation: it is drawn whole, in its order and with its marks unchanged. Turns whose
    answers must not be trained on, by `data.perceive` or `data.max_questions`, are left out. A turn that a task
    writes itself follows it if both together have at most `data.turns`; otherwise the turn stands alone.

    Args:
        recipe: The recipe whose data settings apply.
        datasets: The opened folders, in the order of `recipe.data.folders`.
        codes: For each stream that is written as codes once per image, the codes [n, L] of each folder's images, of
            any integer type; a row of -1 for an image without codes.
        levels: For each folder the levels of marked points, if the recipe has `point_values`.

    Raises:
        DataError: The mixture names a task of which no folder has a turn, or extra samples are requested that no
            image can provide.
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
        weights = {
            name: weight
            for name, weight in self.data.mixture.items()
            if weight > 0 and not (self.data.perceive == "never" and self._tasks[name].perception_only)
        }
        self._pools = ImagePools(recipe, datasets, codes, list(weights))
        self.names = list(weights)
        self._weights = np.array([weights[name] for name in self.names]) / sum(weights.values())
        self._pointed = [set(images.tolist()) for images in self._pools.pointed]

    def draw(self, number: int, count: int) -> list[Sample]:
        """Return the conversations of a draw, followed by its text-only samples and its images without text."""
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
        folder, number = self._pools.draw(name, random)
        sample = self.datasets[folder][number]
        turns = self._usable(sample.turns, folder, number)
        if self._tasks[name].writes_turns:
            lead, others = self._tasks[name].own_turn(name, sample), turns
        else:
            leads = [turn for turn in turns if turn.task == name]
            lead = leads[random.integers(len(leads))]
            others = [turn for turn in turns if turn is not lead]
        chosen = self._in_order(lead, turns) if sample.ordered else self._grouped(lead, others, random)
        sample = attrs.evolve(sample, codes=self._codes(folder, number))
        perceived = self._perceived(
            chosen, sample, self._written(chosen, sample, random), self._levels(folder, number), random
        )
        return attrs.evolve(sample, turns=tuple(perceived))

    def _grouped(self, lead: Turn, others: Sequence[Turn], random: np.random.Generator) -> list[Turn]:
        """Return a turn and some others about the same image, in random order."""
        picked = [others[i] for i in random.permutation(len(others))]
        if self.recipe.points == "drawn":
            picked = _one_with_points([lead, *picked])[1:]
        chosen = [lead, *picked[: self.data.turns - 1]]
        chosen = [chosen[i] for i in random.permutation(len(chosen))]
        # Turns that need a stream come last: in training, a model learns to find objects sooner if it
        # need not attend across a block of codes.
        chosen.sort(key=lambda turn: _order(self._tasks[turn.task]))
        return chosen

    def _in_order(self, lead: Turn, turns: Sequence[Turn]) -> list[Turn]:
        """Return the turns of an ordered sample; a lead that a task has written follows them or stands alone."""
        kept = [*turns]
        if self.recipe.points == "drawn":
            drawn = _one_with_points([lead, *turns])
            kept = [turn for turn in turns if any(turn is one for one in drawn)]
        if any(turn is lead for turn in turns):
            return kept
        return [*kept, lead] if len(kept) < self.data.turns else [lead]

    def _written(self, turns: Sequence[Turn], sample: Sample, random: np.random.Generator) -> list[str]:
        """Return the streams that a conversation writes once for its image, in order."""
        if self.data.perceive == "never":
            return []
        known = [
            name
            for name in self._pools.per_image
            if (
                name in sample.codes
                if is_codes(self._specs[name])
                else sample.has_target(self._specs[name].target)
            )
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
        """Return the turns with their streams before each answer, with marks shuffled and point values added."""
        mode = self.data.perceive
        before = {name: self._turn_of(name, turns) for name in written} if mode == "before" else {}
        result = []
        for number, turn in enumerate(turns):
            task = self._tasks[turn.task]
            if mode == "separate_task" and task.writes_turns and task.perception_only:
                continue
            about_objects = mode != "never" and task.about_objects and bool(turn.masks)
            if not sample.ordered:  # Other turns may refer to its letters.
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
        """Return whether values of a turn's marked points can be written, given the turns that streams precede."""
        if not self.recipe.looks_up_what_is_written:
            return self.recipe.answer_format != "direct"
        block = before.get(self.readout or "")
        return block is not None and block <= number

    def _with_readout(self, turn: Turn, levels: Mapping[tuple[float, float], int]) -> Turn:
        """Return a turn with the codes of its points written, or their levels if all are known."""
        if self.recipe.point_values is None:
            return attrs.evolve(turn, readout=True)
        if not all(point in levels for point in turn.points):
            return turn
        return attrs.evolve(turn, readout=True, levels=tuple(levels[point] for point in turn.points))

    def _levels(self, folder: int, number: int) -> Mapping[tuple[float, float], int]:
        """Return the levels of an image's marked points; none if the recipe has no `point_values`."""
        return self.levels[folder].get(number, {}) if self.levels else {}

    def _turn_of(self, stream: str, turns: Sequence[Turn]) -> int | None:
        """Return the turn that a stream precedes: the first that requires it, else the last that allows it."""
        tasks = self._tasks_of(turns)
        requiring = [number for number, task in enumerate(tasks) if stream in task.required]
        possible = [number for number, task in enumerate(tasks) if task.may_perceive]
        return requiring[0] if requiring else possible[-1] if possible else None

    def _own_turn(self, stream: str, sample: Sample) -> Turn:
        name = self._tasks.of_stream(stream)
        return attrs.evolve(self._tasks[name].own_turn(name, sample), perceive=(stream,))

    def _text_only_readout(self, random: np.random.Generator) -> Sample:
        """Return the marked-point questions of an image that is not shown, after its block of codes: text only."""
        turns, codes = self._marked(random)
        assert self.readout is not None
        chosen = turns[: self.data.turns]
        first = attrs.evolve(chosen[0], perceive=(self.readout,))
        return Sample(turns=(first, *chosen[1:]), codes=codes)

    def _text_only_comparison(self, random: np.random.Generator) -> Sample:
        """Return a marked-point question with the values of its points, with neither image nor block: text only."""
        turns, codes = self._marked(random)
        return Sample(turns=(turns[0],), codes=codes)

    def _text_only_referring(self, random: np.random.Generator) -> Sample:
        """Return object questions about an image that only decoding sees, with its codes; no text if it has none.

        The absence of an object cannot be known without the image, so such questions are left out.
        """
        folder, number = self._pools.draw(WITH_OBJECTS, random)
        sample = self.datasets[folder][number]
        turns = [turn for turn in sample.turns if self._tasks[turn.task].about_objects and turn.masks]
        chosen = [turns[i] for i in random.permutation(len(turns))[: self.data.turns]]
        perceived = tuple(attrs.evolve(turn, perceive=self._pools.prompts) for turn in chosen)
        return attrs.evolve(sample, turns=perceived, codes=self._codes(folder, number), in_context=False)

    def _marked(self, random: np.random.Generator) -> tuple[list[Turn], Mapping[str, Tensor]]:
        """Return the marked-point questions of one image in random order with point values, and its codes."""
        folder, number = self._pools.draw(READABLE, random)
        turns = [turn for turn in self.datasets[folder].turns(number) if self._tasks[turn.task].reads_points]
        turns = [self._shuffled(turns[i], random) for i in random.permutation(len(turns))]
        levels = self._levels(folder, number)
        return [self._with_readout(turn, levels) for turn in turns], self._codes(folder, number)

    def _vision_only(self, random: np.random.Generator) -> Sample:
        """Return an image without text, with its codes."""
        folder, number = self._pools.draw(WITH_CODES, random)
        image_3HW = self.datasets[folder].image(number)
        return Sample(turns=(), image_3HW=image_3HW, codes=self._codes(folder, number))

    def _codes(self, folder: int, number: int) -> dict[str, Tensor]:
        """Return the codes of an image, int64 [L], for each stream of which it has codes."""
        rows = {name: codes[folder][number] for name, codes in self.codes.items()}
        return {name: codes_L.long() for name, codes_L in rows.items() if int(codes_L[0]) >= 0}

    def _usable(self, turns: Sequence[Turn], folder: int, number: int) -> list[Turn]:
        pointed, never = number in self._pointed[folder], self.data.perceive == "never"
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


def auxiliary_count(rate: float, number: int, count: int) -> int:
    """Return how many extra samples follow the `count` conversations of a draw, at `rate` of them per conversation.

    Fractions carry over to the next draw: after n draws there have been floor(n * rate * count) extra samples.
    """
    per_draw = Fraction(str(rate)) * count  # The decimal as written: 0.29 * 100 is exactly 29.
    return math.floor((number + 1) * per_draw) - math.floor(number * per_draw)


def _order(task: Task) -> int:
    """Return the rank of a task in a conversation: first no stream, then writing a stream only, then needing one."""
    return 0 if not task.required else 1 if task.perception_only else 2


def _one_with_points(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns without points, and the first with points: drawn on one image, two would share letters."""
    first = next((turn for turn in turns if turn.points), None)
    return [turn for turn in turns if not turn.points or turn is first]
