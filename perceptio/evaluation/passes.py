"""The ways in which an evaluation asks a model: which questions, under which settings, and what is scored of replies.

Shapes: B questions, L depth codes, H W pixels.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from torch import Tensor

from perceptio.data.conversations import DEPTH_MAP_QUESTION, MARKED
from perceptio.evaluation.depth import DepthMapMeter
from perceptio.evaluation.intervals import wilson
from perceptio.evaluation.masks import MaskMeter
from perceptio.interfaces import DepthMap, Sample, TextTokenizer, Turn
from perceptio.interfaces import GenerationSettings
from perceptio.vocabulary import LETTERS

MAP_QUESTION = Turn(question=DEPTH_MAP_QUESTION, answer="", task="depth_map")
LETTER_TOKENS = 8
"""Most tokens of an answer that is a letter."""


@attrs.frozen(kw_only=True, eq=False)
class Question:
    """A question about a sample, asked with the model's own depth codes or with given ones."""

    sample: Sample
    turn: Turn
    codes_L: Tensor | None = None


@attrs.frozen(kw_only=True, eq=False)
class Reply:
    """What a model replied.

    Attributes:
        question: To which question.
        text: The answer in words.
        depth: The map that its depth block decodes to; None without a block of nothing but codes.
        closed: Whether its depth block ended where the model would have ended it.
        mask_HW: Its masks, united, at the image's own size; None without one. Only a pass that reads masks has them.
    """

    question: Question
    text: str
    depth: DepthMap | None
    closed: bool
    mask_HW: np.ndarray | None


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """A sample, and depth codes [L] that its block may be given: its own depth's, and another sample's.

    They are None where the sample has no depth, or no other has.
    """

    sample: Sample
    true_codes_L: Tensor | None
    other_codes_L: Tensor | None


class Pass(ABC):
    """One way of asking, and its figures."""

    reads_masks: ClassVar[bool] = False

    def __init__(self) -> None:
        self.asked = 0

    @abstractmethod
    def questions(self, case: Case) -> Iterable[Question]:
        """The questions about a sample."""

    @abstractmethod
    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """How a batch of them is asked."""

    @abstractmethod
    def score(self, reply: Reply) -> None:
        """Take a reply into the figures."""

    @abstractmethod
    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """The figures by the name of what they are of; called when something was asked."""


class MarkedPoints(Pass):
    """Relative depth, as the model answers it; where it perceives first, also what its block shows and is.

    Args:
        perceives: Whether the model writes a depth block first.
        metric: Whether the block and the truth are both in metres.
    """

    def __init__(self, *, perceives: bool, metric: bool) -> None:
        super().__init__()
        self.perceives = perceives
        self._answers, self._readouts = Accuracy(), Accuracy()
        self._maps, self._whole = MapFigures(metric), 0

    def questions(self, case: Case) -> Iterable[Question]:
        """Every marked-point question."""
        return [Question(sample=case.sample, turn=turn) for turn in case.sample.turns if turn.task == MARKED]

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """With the block forced, or none."""
        return _block_first() if self.perceives else attrs.evolve(_block_first(), order=(), force=())

    def score(self, reply: Reply) -> None:
        """The letter; the nearest marked point on the map, whatever the answer says; the map itself."""
        self._answers.update(reply.question.turn, parse_letter(reply.text))
        if self.perceives:
            nearest = "" if reply.depth is None else _nearest(reply.depth, reply.question.turn.points)
            self._readouts.update(reply.question.turn, nearest)
            self._maps.update(reply)
            self._whole += reply.depth is not None

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """`relative_depth`, and where the model perceives `relative_depth_readout` and `depth_block`."""
        if not self.perceives:
            return {"relative_depth": self._answers.compute()}
        return {
            "relative_depth": self._answers.compute(),
            "relative_depth_readout": self._readouts.compute(),
            "depth_block": self._maps.compute() | {"well_formed": self._whole / self.asked},
        }


class GivenBlock(Pass):
    """Relative depth with given codes in the block: the true ones, or another sample's."""

    def __init__(self, name: str, *, true: bool) -> None:
        super().__init__()
        self.name, self.true = name, true
        self._answers = Accuracy()

    def questions(self, case: Case) -> Iterable[Question]:
        """Every marked-point question of samples with depth."""
        codes_L = case.true_codes_L if self.true else case.other_codes_L
        turns = [turn for turn in case.sample.turns if turn.task == MARKED and codes_L is not None]
        return [Question(sample=case.sample, turn=turn, codes_L=codes_L) for turn in turns]

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """With the block forced."""
        return _block_first()

    def score(self, reply: Reply) -> None:
        """The letter."""
        self._answers.update(reply.question.turn, parse_letter(reply.text))

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """The accuracy under the pass's name."""
        return {self.name: self._answers.compute()}


class FreeBlock(Pass):
    """One marked-point question per sample with nothing forced and no grammar: is the block still one?"""

    def __init__(self) -> None:
        super().__init__()
        self._formed = 0

    def questions(self, case: Case) -> Iterable[Question]:
        """The sample's last marked-point question."""
        turns = [turn for turn in case.sample.turns if turn.task == MARKED]
        return [Question(sample=case.sample, turn=turn) for turn in turns[-1:]]

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """The block and a token of text."""
        return GenerationSettings(order=("depth",), grammar=False, readout=False, max_new_tokens=1)

    def score(self, reply: Reply) -> None:
        """Whether the block was opened, filled with codes, and closed."""
        self._formed += reply.depth is not None and reply.closed

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """`depth_block.well_formed_free`."""
        return {"depth_block": {"well_formed_free": self._formed / self.asked}}


class Referring(Pass):
    """Masks of referring expressions; an answer without `[SEG]` is an empty mask and counts."""

    reads_masks = True

    def __init__(self) -> None:
        super().__init__()
        self._meter = MaskMeter()

    def questions(self, case: Case) -> Iterable[Question]:
        """Every referring expression."""
        turns = [turn for turn in case.sample.turns if turn.task == "referring"]
        return [Question(sample=case.sample, turn=turn) for turn in turns]

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """Masks if the model wants some, and a token of text."""
        return GenerationSettings(order=("segmentation",), max_new_tokens=1)

    def score(self, reply: Reply) -> None:
        """The union of the answer's masks against that of the question's."""
        image_3HW, masks = reply.question.sample.image_3HW, reply.question.turn.masks
        assert image_3HW is not None
        nothing_HW = np.zeros(tuple(image_3HW.shape[-2:]), dtype=bool)
        self._meter.update(reply.mask_HW, np.logical_or.reduce(masks) if masks else nothing_HW)

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """`referring`."""
        return {"referring": self._meter.compute()}


class DepthMaps(Pass):
    """The depth block as a task of its own, for models that answer without perceiving."""

    def __init__(self, *, metric: bool) -> None:
        super().__init__()
        self._maps = MapFigures(metric)

    def questions(self, case: Case) -> Iterable[Question]:
        """One per sample with depth."""
        return [] if case.sample.depth is None else [Question(sample=case.sample, turn=MAP_QUESTION)]

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """The block and a token of text."""
        return GenerationSettings(order=("depth",), force=("depth",), readout=False, max_new_tokens=1)

    def score(self, reply: Reply) -> None:
        """The map against the truth."""
        self._maps.update(reply)

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """`depth_map`."""
        return {"depth_map": self._maps.compute()}


class PlainQuestions(Pass):
    """Questions of a task that is answered in words alone, without perceiving; the whole answer must agree.

    Args:
        task: The task.
        text: With which answers are counted.
    """

    def __init__(self, task: str, text: TextTokenizer) -> None:
        super().__init__()
        self.task, self.text = task, text
        self._right = 0

    def questions(self, case: Case) -> Iterable[Question]:
        """Every question of the task."""
        return [
            Question(sample=case.sample, turn=turn) for turn in case.sample.turns if turn.task == self.task
        ]

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """With room for twice the longest answer, whose text may be split otherwise."""
        longest = max(len(self.text.encode(question.turn.answer)) for question in questions)
        return GenerationSettings(order=(), readout=False, max_new_tokens=2 * longest + 2)

    def score(self, reply: Reply) -> None:
        """Whether the answers agree, but for case and blanks around them."""
        self._right += reply.text.strip().lower() == reply.question.turn.answer.strip().lower()

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Their share under the task's name: `accuracy` of attributes, `exact_match` of anything else."""
        share = "accuracy" if self.task == "attribute" else "exact_match"
        interval = list(wilson(self._right, self.asked))
        return {self.task: {share: self._right / self.asked, "interval": interval, "count": self.asked}}


class Accuracy:
    """Right letters per number of points and the mean of these, as HardBLINK reports them."""

    def __init__(self) -> None:
        self._right: dict[int, list[bool]] = {}
        self._unparsed = 0

    def update(self, turn: Turn, answered: str) -> None:
        """Take the letter that was answered, or `""`."""
        right = answered == parse_letter(turn.answer)
        self._right.setdefault(len(turn.points), []).append(right)
        self._unparsed += answered == ""

    def compute(self) -> dict[str, Any]:
        """The share of right answers by number of points, `mean`, `interval`, `count` and `unparsed`."""
        shares = {str(points): sum(right) / len(right) for points, right in sorted(self._right.items())}
        right, count = sum(map(sum, self._right.values())), sum(map(len, self._right.values()))
        summary = {"mean": sum(shares.values()) / len(shares), "interval": list(wilson(right, count))}
        return shares | summary | {"count": count, "unparsed": self._unparsed}


class MapFigures:
    """Written maps against the truth, of one question per sample with both."""

    def __init__(self, metric: bool) -> None:
        self._meter = DepthMapMeter(metric=metric)
        self._seen: Sample | None = None

    def update(self, reply: Reply) -> None:
        """Take the map of a sample's first reply that has one; a sample's replies come one after the other."""
        sample = reply.question.sample
        if reply.depth is not None and sample.depth is not None and self._seen is not sample:
            self._seen = sample
            self._meter.update(reply.depth, sample.depth)

    def compute(self) -> dict[str, Any]:
        """Of `DepthMapMeter`; `count` alone, 0, where no sample has a map and its truth."""
        return {"count": 0} if self._seen is None else self._meter.compute()


def parse_letter(text: str) -> str:
    """The letter an answer chooses, or `""`: `(B)`, `point B is closer`, `answer is B`, or a lone letter."""
    for pattern in (
        r"\(([A-Z])\)",
        r"\bpoint ([A-Z])\b[^.]*\bclose(?:r|st)\b",
        r"\banswer is \W*([A-Z])\b",
        r"^\W*([A-Z])\W*$",
    ):
        found = re.search(pattern, text)
        if found:
            return found.group(1)
    return ""


def _nearest(depth: DepthMap, points: Sequence[tuple[float, float]]) -> str:
    """The letter of the point that a map says is nearest."""
    h, w = depth.values_HW.shape
    values = [depth.values_HW[min(int(y * h), h - 1), min(int(x * w), w - 1)] for x, y in points]
    return LETTERS[int(np.argmin(values) if depth.unit == "metres" else np.argmax(values))]


def _block_first() -> GenerationSettings:
    return GenerationSettings(order=("depth",), force=("depth",), max_new_tokens=LETTER_TOKENS)
