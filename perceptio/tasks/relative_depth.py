"""Which of several marked points is closest. The answer is a letter, which the model can read from what it perceived.

Accuracy is computed as for HardBLINK (AURORA, arXiv 2412.03548): per number of points, and the mean of these.
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
    """Scores the model's own answers, and the levels of the points if they are written before the answer.

    Args:
        task: The name of the task in the data.
        perceives: The streams that the model writes before it answers, for every image.
        figure: The name of the accuracy; by default the name of the task.
        levels: Whether levels of the points are written before the answer.
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
        """See `Pass.settings`: all streams are forced."""
        return GenerationSettings(streams=self.perceives, force=self.perceives, max_new_tokens=LETTER_TOKENS)

    def score(self, reply: Reply) -> Kept:
        """See `Pass.score`: stores the letter, and the point that is nearest by the levels."""
        kept = {self.figure: self._answers.update(reply.question.turn, parse_letter(reply.text))}
        return kept if self._levels is None else kept | {f"{self.task}_values": self._levels.update(reply)}

    def is_right(self, reply: Reply) -> bool:
        """See `Pass.is_right`: the letters agree."""
        return parse_letter(reply.text) == parse_letter(reply.question.turn.answer)

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the accuracy, and `TASK_values` if levels are written, such as `relative_depth_values`."""
        figures = {self.figure: self._answers.compute()}
        return figures if self._levels is None else figures | {f"{self.task}_values": self._levels.compute()}


class MarkedPointsOnMap(MarkedPoints):
    """Also scores the depth map that the model writes first, and the marked point that is nearest on it.

    Args:
        task: The name of the task in the data.
        stream: The stream of depth.
        perceives: The streams that the model writes before it answers, for every image.
        metric: Whether the map and the ground truth are both in metres.
        levels: See `MarkedPoints`.
    """

    def __init__(
        self, task: str, stream: str, perceives: tuple[str, ...], *, metric: bool, levels: bool = False
    ) -> None:
        super().__init__(task, perceives, levels=levels, controlled=(stream,))
        self.stream, self.decodes = stream, (stream,)
        self._readouts, self._maps, self._whole = Accuracy(), DepthFigures(metric), 0

    def score(self, reply: Reply) -> Kept:
        """See `Pass.score`: stores the letter, the nearest marked point on the map, and the metrics of the map."""
        depth: DepthMap | None = reply.decoded[self.stream]
        nearest = "" if depth is None else _nearest(depth, reply.question.turn.points)
        self._whole += depth is not None
        return {
            **(super().score(reply) or {}),
            f"{self.task}_readout": self._readouts.update(reply.question.turn, nearest),
            f"{self.stream}_block": self._maps.update(reply, depth) | {"well_formed": depth is not None},
        }

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Also return `TASK_readout` and `STREAM_block`, such as `relative_depth_readout` and `depth_block`."""
        return {
            **super().figures(),
            f"{self.task}_readout": self._readouts.compute(),
            f"{self.stream}_block": self._maps.compute() | {"well_formed": self._whole / self.asked},
        }


class GivenCodes(MarkedPoints):
    """Scores answers for which codes are given: the true ones, or those of another sample.

    Args:
        task: The name of the task in the data.
        stream: The stream whose codes are given.
        perceives: The streams that are written before the answer, for every image.
        figure: The name of the accuracy.
        true: Whether the true codes are given.
    """

    def __init__(
        self, task: str, stream: str, perceives: tuple[str, ...], figure: str, *, true: bool
    ) -> None:
        super().__init__(task, perceives, figure)
        self.stream, self.true, self.gives = stream, true, (stream,)

    def questions(self, case: Case) -> Iterable[Question]:
        """See `Pass.questions`: all marked-point questions of samples with such codes."""
        codes = case.true_codes if self.true else case.other_codes
        if self.stream not in codes:
            return []
        given = {self.stream: codes[self.stream]}
        return [attrs.evolve(question, codes=given) for question in super().questions(case)]


class FreelyWritten(Pass):
    """Checks how often the model writes a well-formed block without a grammar and with nothing forced.

    It asks one marked-point question per sample.

    Args:
        task: The name of the task in the data.
        stream: The stream whose block is checked.
        perceives: The streams that the model may write before it answers.
    """

    def __init__(self, task: str, stream: str, perceives: tuple[str, ...]) -> None:
        super().__init__(task)
        self.stream, self.perceives, self.decodes = stream, perceives, (stream,)
        self._formed = 0

    def questions(self, case: Case) -> Iterable[Question]:
        """See `Pass.questions`: the last marked-point question of the sample."""
        return list(super().questions(case))[-1:]

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """See `Pass.settings`: the streams, without grammar, and one token of text."""
        return GenerationSettings(streams=self.perceives, grammar=False, readout=False, max_new_tokens=1)

    def score(self, reply: Reply) -> Kept:
        """See `Pass.score`: stores whether the block was opened, filled with codes, and closed."""
        formed = reply.decoded[self.stream] is not None and bool(reply.closed[self.stream])
        self._formed += formed
        return {f"{self.stream}_block": {"well_formed_free": formed}}

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return `STREAM_block.well_formed_free`, the share of well-formed blocks."""
        return {f"{self.stream}_block": {"well_formed_free": self._formed / self.asked}}


class Accuracy:
    """Accumulates accuracy per number of points and the mean of these, as HardBLINK reports them."""

    def __init__(self) -> None:
        self._right: dict[int, list[bool]] = {}
        self._unparsed = 0

    def update(self, turn: Turn, answered: str) -> dict[str, Any]:
        """Add the letter of an answer, or `""` if it has none; return what to store about the reply."""
        right = answered == parse_letter(turn.answer)
        self._right.setdefault(len(turn.points), []).append(right)
        self._unparsed += answered == ""
        return {"right": right, "letter": answered}

    def compute(self) -> dict[str, Any]:
        """Return the accuracy by number of points, `mean`, the 95% `interval`, `count` and `unparsed`."""
        shares = {str(points): sum(right) / len(right) for points, right in sorted(self._right.items())}
        right, count = sum(map(sum, self._right.values())), sum(map(len, self._right.values()))
        summary = {"mean": sum(shares.values()) / len(shares), "interval": list(wilson(right, count))}
        return shares | summary | {"count": count, "unparsed": self._unparsed}


class SaidLevels:
    """Accumulates how often the nearest point by the written levels is right, and how often the answer names it."""

    def __init__(self) -> None:
        self._nearest, self._followed = Accuracy(), list[bool]()

    def update(self, reply: Reply) -> dict[str, Any]:
        """Add a reply with the levels written before it; return what to store about the reply."""
        said = reply.readout
        known = bool(said) and min(said) >= 0
        # If several points tie, the first one counts as nearest; an answer that names any of them follows the levels.
        nearest = [
            letter for letter, level in zip(LETTERS, said, strict=False) if known and level == max(said)
        ]
        self._followed.append(parse_letter(reply.text) in nearest)
        kept = self._nearest.update(reply.question.turn, nearest[0] if nearest else "")
        return kept | {"followed": self._followed[-1], "levels": list(said)}

    def compute(self) -> dict[str, Any]:
        """Return `Accuracy.compute` of the nearest point by levels, and `followed`, the share of answers with it."""
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
        """See `Task.with_points_shuffled`: the answer becomes the new letter of the right point.

        Raises:
            DataError: The answer is not the letter of one of the points.
        """
        problem = _problem(turn)
        if problem:  # Data are checked only under the registered name of the task.
            raise DataError(f"The question {turn.question!r} cannot be shuffled: {problem}")
        order = random.permutation(len(turn.points)).tolist()
        right = LETTERS.index(turn.answer.strip("()"))
        answer = f"({LETTERS[order.index(right)]})"
        return attrs.evolve(turn, points=tuple(turn.points[i] for i in order), answer=answer)

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """See `Task.passes`: the model's own answers and, if it perceives, controls of how it uses the stream.

        A stream of depth maps is also read out and measured. For a stream of codes, the questions are asked again
        with the true codes and with those of another sample, instead of the model's own.
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
                return answered  # The samples' depth cannot be encoded in the model's codes.
        if not isinstance(own.spec.written, Codes):
            return answered
        return [
            *answered,
            GivenCodes(name, self.stream, perceives, "oracle_codes", true=True),
            GivenCodes(name, self.stream, perceives, "shuffled_codes", true=False),
        ]


@attrs.frozen(kw_only=True)
class RelativeDepthTaskConfig(TaskConfig):
    """Which of several marked points is closest; the answer is a letter.

    Attributes:
        stream: The stream that the answer is read from.
    """

    name: ClassVar[str] = "relative_depth"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    stream: str = "depth"

    def problems(self, turn: Turn) -> Iterable[str]:
        """See `TaskConfig.problems`: the answer must be the letter of a point."""
        return filter(None, [_problem(turn)])

    def build(self, model: ModelSpecs) -> RelativeDepthTask:
        """See `TaskConfig.build`."""
        return RelativeDepthTask(self.stream)


def _problem(turn: Turn) -> str | None:
    """Say why the answer is not the letter of one of the points; None if it is."""
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
    """Return the letter of the point that is nearest on a map."""
    h, w = depth.values_HW.shape
    values = [depth.values_HW[min(int(y * h), h - 1), min(int(x * w), w - 1)] for x, y in points]
    return LETTERS[int(np.argmin(values) if depth.unit == "metres" else np.argmax(values))]
