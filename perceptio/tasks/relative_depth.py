"""Which of several marked points is closest: answered by a letter, and read from what was perceived before.

Accuracy is that of HardBLINK (AURORA, arXiv 2412.03548): per number of points, and the mean of these.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from perceptio.errors import DataError, quoted
from perceptio.interfaces import (
    LETTERS,
    Case,
    Codes,
    DepthMap,
    DepthSpec,
    GenerationSettings,
    Kept,
    Kind,
    ModelSpecs,
    Pass,
    Question,
    Reply,
    Task,
    TaskConfig,
    TaskData,
    Turn,
)
from perceptio.ops.intervals import wilson
from perceptio.ops.letters import LETTER_TOKENS, parse_letter
from perceptio.tasks.depth_figures import DepthFigures, in_metres


class MarkedPoints(Pass):
    """The answer as the model gives it, and where levels of the points were said before, what these say.

    Args:
        task: What the data call the task.
        perceives: What the model writes before it answers, of every image.
        figure: What the accuracy is called; by default as the task.
        levels: Whether levels of the points are said before the answer.
        controlled: See `Pass.controlled`.
    """

    def __init__(
        self,
        task: str,
        perceives: tuple[str, ...],
        figure: str | None = None,
        *,
        levels: bool = False,
        controlled: tuple[str, ...] = (),
    ) -> None:
        super().__init__(task)
        self.perceives, self.figure, self.controlled = perceives, figure or task, controlled
        self._answers = Accuracy()
        self._levels = SaidLevels() if levels else None

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """Everything that is perceived is forced."""
        return GenerationSettings(streams=self.perceives, force=self.perceives, max_new_tokens=LETTER_TOKENS)

    def score(self, reply: Reply) -> Kept:
        """The letter, and what the levels say."""
        kept = {self.figure: self._answers.update(reply.question.turn, parse_letter(reply.text))}
        return kept if self._levels is None else kept | {f"{self.task}_values": self._levels.update(reply)}

    def is_right(self, reply: Reply) -> bool:
        """Whether the answer is the right letter."""
        return parse_letter(reply.text) == parse_letter(reply.question.turn.answer)

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """The accuracy; and for the task `relative_depth`, where levels are said, `relative_depth_values`."""
        figures = {self.figure: self._answers.compute()}
        return figures if self._levels is None else figures | {f"{self.task}_values": self._levels.compute()}


class MarkedPointsOnMap(MarkedPoints):
    """Where the model writes a depth map first: also the map, and the point that is nearest on it.

    Args:
        task: What the data call the task.
        stream: The stream of depth.
        perceives: What the model writes before it answers, of every image.
        metric: Whether the map and the truth are both in metres.
        levels: See `MarkedPoints`.
    """

    def __init__(
        self, task: str, stream: str, perceives: tuple[str, ...], *, metric: bool, levels: bool = False
    ) -> None:
        super().__init__(task, perceives, levels=levels, controlled=(stream,))
        self.stream, self.decodes = stream, (stream,)
        self._readouts, self._maps, self._whole = Accuracy(), DepthFigures(metric), 0

    def score(self, reply: Reply) -> Kept:
        """The letter, the nearest marked point on the map, and the map."""
        depth: DepthMap | None = reply.decoded[self.stream]
        nearest = "" if depth is None else _nearest(depth, reply.question.turn.points)
        self._whole += depth is not None
        return {
            **(super().score(reply) or {}),
            f"{self.task}_readout": self._readouts.update(reply.question.turn, nearest),
            f"{self.stream}_block": self._maps.update(reply, depth) | {"well_formed": depth is not None},
        }

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """For the task `relative_depth` and the stream `depth`: `relative_depth_readout` and `depth_block`, too."""
        return {
            **super().figures(),
            f"{self.task}_readout": self._readouts.compute(),
            f"{self.stream}_block": self._maps.compute() | {"well_formed": self._whole / self.asked},
        }


class GivenCodes(MarkedPoints):
    """The answer where codes are given: the true ones, or another sample's.

    Args:
        task: What the data call the task.
        stream: The stream whose codes are given.
        perceives: What is written before the answer, of every image.
        figure: What the accuracy is called.
        true: Whether the true codes are given.
    """

    def __init__(
        self, task: str, stream: str, perceives: tuple[str, ...], figure: str, *, true: bool
    ) -> None:
        super().__init__(task, perceives, figure)
        self.stream, self.true, self.gives = stream, true, (stream,)

    def questions(self, case: Case) -> Iterable[Question]:
        """Every marked-point question of samples with such codes."""
        codes = case.true_codes if self.true else case.other_codes
        if self.stream not in codes:
            return []
        given = {self.stream: codes[self.stream]}
        return [attrs.evolve(question, codes=given) for question in super().questions(case)]


class FreelyWritten(Pass):
    """One marked-point question per sample with nothing forced and no grammar: is what is written still a block?

    Args:
        task: What the data call the task.
        stream: The stream whose block is meant.
        perceives: What the model writes before it answers, of every image.
    """

    def __init__(self, task: str, stream: str, perceives: tuple[str, ...]) -> None:
        super().__init__(task)
        self.stream, self.perceives, self.decodes = stream, perceives, (stream,)
        self._formed = 0

    def questions(self, case: Case) -> Iterable[Question]:
        """The sample's last marked-point question."""
        return list(super().questions(case))[-1:]

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """What is perceived, and a token of text."""
        return GenerationSettings(streams=self.perceives, grammar=False, readout=False, max_new_tokens=1)

    def score(self, reply: Reply) -> Kept:
        """Whether the block was opened, filled with codes, and closed."""
        formed = reply.decoded[self.stream] is not None and bool(reply.closed[self.stream])
        self._formed += formed
        return {f"{self.stream}_block": {"well_formed_free": formed}}

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """For the stream `depth`: `depth_block.well_formed_free`."""
        return {f"{self.stream}_block": {"well_formed_free": self._formed / self.asked}}


class Accuracy:
    """Right letters per number of points and the mean of these, as HardBLINK reports them."""

    def __init__(self) -> None:
        self._right: dict[int, list[bool]] = {}
        self._unparsed = 0

    def update(self, turn: Turn, answered: str) -> dict[str, Any]:
        """Take the letter that was answered, or `""`; what is to be kept of it."""
        right = answered == parse_letter(turn.answer)
        self._right.setdefault(len(turn.points), []).append(right)
        self._unparsed += answered == ""
        return {"right": right, "letter": answered}

    def compute(self) -> dict[str, Any]:
        """The share of right answers by number of points, `mean`, `interval`, `count` and `unparsed`."""
        shares = {str(points): sum(right) / len(right) for points, right in sorted(self._right.items())}
        right, count = sum(map(sum, self._right.values())), sum(map(len, self._right.values()))
        summary = {"mean": sum(shares.values()) / len(shares), "interval": list(wilson(right, count))}
        return shares | summary | {"count": count, "unparsed": self._unparsed}


class SaidLevels:
    """What the levels of the points say: which is nearest, and whether the answer names it."""

    def __init__(self) -> None:
        self._nearest, self._followed = Accuracy(), list[bool]()

    def update(self, reply: Reply) -> dict[str, Any]:
        """Take a reply with the levels that were said before it; what is to be kept of it."""
        said = reply.readout
        known = bool(said) and min(said) >= 0
        # Of equally near ones the first is named, and an answer that names another of them follows, too.
        nearest = [
            letter for letter, level in zip(LETTERS, said, strict=False) if known and level == max(said)
        ]
        self._followed.append(parse_letter(reply.text) in nearest)
        kept = self._nearest.update(reply.question.turn, nearest[0] if nearest else "")
        return kept | {"followed": self._followed[-1], "levels": list(said)}

    def compute(self) -> dict[str, Any]:
        """As `Accuracy.compute`, of the nearest by the levels, and `followed`: the share of answers that name it."""
        return self._nearest.compute() | {"followed": sum(self._followed) / len(self._followed)}


class RelativeDepthTask(Task):
    """The closest of several marked points.

    Args:
        stream: The stream that the answer is read from.
    """

    may_perceive = True
    reads_points = True

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.required = (stream,)

    def with_points_shuffled(self, turn: Turn, random: np.random.Generator) -> Turn:
        """See `Task.with_points_shuffled`: the answer is the letter that the right point has now.

        Raises:
            DataError: The answer is not the letter of one of the points.
        """
        problem = _problem(turn)
        if problem:  # Data are held to it under the registered name only.
            raise DataError(f"The question {turn.question!r} cannot be shuffled: {problem}")
        order = random.permutation(len(turn.points)).tolist()
        right = LETTERS.index(turn.answer.strip("()"))
        answer = f"({LETTERS[order.index(right)]})"
        return attrs.evolve(turn, points=tuple(turn.points[i] for i in order), answer=answer)

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """As it answers; and where it perceives, what the answer owes to that.

        A stream of depth maps is read out and measured; of one that is written as codes, the true codes and those of
        another sample are given in place of its own.
        """
        levels = data.model.levels_of == self.stream
        if self.stream not in data.perceives:
            return [MarkedPoints(name, data.perceives, levels=levels)]
        own, perceives = data.model.streams[self.stream], data.perceives
        depth = own.tokenizer if isinstance(own.tokenizer, DepthSpec) else None
        answered: list[Pass] = [MarkedPoints(name, perceives, levels=levels, controlled=(self.stream,))]
        if depth is not None:
            metric = in_metres(depth, data.units)
            answered = [
                MarkedPointsOnMap(name, self.stream, perceives, metric=metric, levels=levels),
                FreelyWritten(name, self.stream, perceives),
            ]
            if depth.convention.metric and not metric:
                return answered  # What the samples have cannot be written in the model's codes.
        if not isinstance(own.spec.written, Codes):
            return answered
        return [
            *answered,
            GivenCodes(name, self.stream, perceives, "oracle_codes", true=True),
            GivenCodes(name, self.stream, perceives, "shuffled_codes", true=False),
        ]


@attrs.frozen(kw_only=True)
class RelativeDepthTaskConfig(TaskConfig):
    """Which of several marked points is closest; the answer is its letter.

    Attributes:
        stream: The stream that the answer is read from.
    """

    name: ClassVar[str] = "relative_depth"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    stream: str = "depth"

    def problems(self, turn: Turn) -> Iterable[str]:
        """See `TaskConfig.problems`: an answer must be the letter of a point."""
        return filter(None, [_problem(turn)])

    def build(self, model: ModelSpecs) -> RelativeDepthTask:
        """See `TaskConfig.build`."""
        return RelativeDepthTask(self.stream)


def _problem(turn: Turn) -> str | None:
    """Why the answer is not the letter of one of the points."""
    named, count = re.fullmatch(r"\(([A-Z])\)", turn.answer), min(len(turn.points), len(LETTERS))
    if count == 0:
        return f"a {turn.task} turn needs points."
    if named is None:
        return (
            f"the answer {quoted(turn.answer)} of a {turn.task} turn is not a letter in parentheses, such as "
            '"(A)".'
        )
    if LETTERS.index(named[1]) >= count:
        return f"the answer is {turn.answer}, and its {count} points end with ({LETTERS[count - 1]})."
    return None


def _nearest(depth: DepthMap, points: Sequence[tuple[float, float]]) -> str:
    """The letter of the point that a map says is nearest."""
    h, w = depth.values_HW.shape
    values = [depth.values_HW[min(int(y * h), h - 1), min(int(x * w), w - 1)] for x, y in points]
    return LETTERS[int(np.argmin(values) if depth.unit == "metres" else np.argmax(values))]
