"""Tasks: how a conversation is written from a sample, which streams its answers need, and how answers are judged.

Shapes: B questions, L codes.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from torch import Tensor

from perceptio.errors import InterfaceError, quoted
from perceptio.interfaces.component import Checked, ComponentConfig
from perceptio.interfaces.generation import GenerationSettings
from perceptio.interfaces.language import TextTokenizer
from perceptio.interfaces.model_specs import ModelSpecs
from perceptio.interfaces.records import Sample, Turn


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """A sample, and the codes that its questions may be given in place of the model's own.

    Attributes:
        sample: The sample.
        true_codes: Codes [L] of its own targets, by stream: of the streams that a pass gives (`Pass.gives`), where
            the sample has their target.
        other_codes: Those of another sample, where this one has its own.
    """

    sample: Sample
    true_codes: Mapping[str, Tensor] = attrs.field(factory=dict)
    other_codes: Mapping[str, Tensor] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Question:
    """A question about a sample, asked with the model's own codes or with given ones [L], by stream."""

    sample: Sample
    turn: Turn
    codes: Mapping[str, Tensor] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Reply:
    """What a model replied.

    Attributes:
        question: To which question.
        text: The answer in words.
        decoded: What the streams that the pass `decodes` stand for, as `Answer.decoded` has it: of a stream per image
            a value, None where it was not written whole; of a stream per object a list.
        closed: Whether each stream that is written per image ended where the model would have ended it.
        compared: Of the streams that the pass `compares`, what their tokenizer's `compare` says of what was written,
            by figure: of a stream per image one number, and none where it was not written whole or has no target; of
            a stream per object one for each pair of an object that was written and one that the turn is about.
        readout: What was said of each marked point before the answer, as `Answer.readout` has it.
    """

    question: Question
    text: str
    decoded: Mapping[str, Any] = attrs.field(factory=dict)
    closed: Mapping[str, bool] = attrs.field(factory=dict)
    compared: Mapping[str, Mapping[str, tuple[float, ...]]] = attrs.field(factory=dict)
    readout: tuple[int, ...] = ()


Kept = Mapping[str, Mapping[str, Any]] | None
"""What is kept of a reply beside its text; see `Pass.score`."""


def _checked_settings(
    settings: Callable[[Any, Sequence[Question]], Any],
) -> Callable[[Any, Sequence[Question]], GenerationSettings]:
    @functools.wraps(settings)
    def checked(self: Any, questions: Sequence[Question]) -> GenerationSettings:
        made = settings(self, questions)
        if not isinstance(made, GenerationSettings):
            raise InterfaceError(
                f"{self.known_as}.settings returned {quoted(made)}; it must return GenerationSettings."
            )
        return made

    return checked


def _checked_figures(figures: Callable[[Any], Any]) -> Callable[[Any], Mapping[str, Mapping[str, Any]]]:
    @functools.wraps(figures)
    def checked(self: Any) -> Mapping[str, Mapping[str, Any]]:
        made = figures(self)
        if not isinstance(made, Mapping) or not all(isinstance(one, Mapping) for one in made.values()):
            raise InterfaceError(
                f"{self.known_as}.figures returned {quoted(made)}; it must return figures by the name of what they "
                f"are of, such as {{{self.task!r}: {{'accuracy': 0.5}}}}."
            )
        return made

    return checked


def _checked_score(score: Callable[[Any, Reply], Any]) -> Callable[[Any, Reply], Kept]:
    @functools.wraps(score)
    def checked(self: Any, reply: Reply) -> Kept:
        made = score(self, reply)
        if made is not None and not (isinstance(made, Mapping) and all(map(_can_be_kept, made.values()))):
            raise InterfaceError(
                f"{self.known_as}.score returned {quoted(made)}; it must return what is to be kept of the reply, "
                f"such as {{{self.task!r}: {{'right': True}}}} with numbers, texts and lists of them, or None."
            )
        return made

    return checked


def _checked_is_right(is_right: Callable[[Any, Reply], Any]) -> Callable[[Any, Reply], bool]:
    @functools.wraps(is_right)
    def checked(self: Any, reply: Reply) -> bool:
        made = is_right(self, reply)
        if not isinstance(made, bool):
            raise InterfaceError(
                f"{self.known_as}.is_right returned {quoted(made)}; it must return True or False."
            )
        return made

    return checked


def _can_be_kept(scored: Any) -> bool:
    """Whether what is kept under the name of a figure can be written, and `right` is a truth value."""
    if not isinstance(scored, Mapping) or not isinstance(scored.get("right", True), bool):
        return False
    values = (
        one for held in scored.values() for one in (held if isinstance(held, list | tuple) else (held,))
    )
    return all(one is None or isinstance(one, bool | int | float | str) for one in values)


class Pass(Checked, ABC):
    """One way of asking, and its figures.

    All questions of a pass have codes given for the same streams.

    Attributes:
        decodes: The streams of which a reply has what they decode to.
        compares: The streams of which a reply has the figures of what was written against the sample's targets.
        gives: The streams whose codes its questions are given.
        controlled: The streams, written once per image before its answers, of which controls can be asked: the same
            questions with something else in place of what the model wrote. Such a pass has `is_right`.
        asked: How many questions were asked.

    Args:
        task: What the data call the task.
    """

    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "settings": _checked_settings,
        "score": _checked_score,
        "is_right": _checked_is_right,
        "figures": _checked_figures,
    }
    decodes: tuple[str, ...] = ()
    compares: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    controlled: tuple[str, ...] = ()

    def __init__(self, task: str) -> None:
        self.task = task
        self.asked = 0

    def questions(self, case: Case) -> Iterable[Question]:
        """The questions about a sample: by default its turns of the task, also one that the task wrote itself."""
        return [
            Question(sample=case.sample, turn=turn) for turn in case.sample.turns if turn.task == self.task
        ]

    @abstractmethod
    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """How a batch of them is asked."""

    @abstractmethod
    def score(self, reply: Reply) -> Kept:
        """Take a reply into the figures.

        Returns:
            What is to be kept of it beside its text, under the names that `figures` uses:
            `{"relative_depth": {"right": True, "letter": "B"}}`. Under `right` it says whether the answer counts as
            right, which is what `perceptio compare` reads. None: nothing.
        """

    def is_right(self, reply: Reply) -> bool:
        """Whether a reply's words are the right answer; it counts nothing, and a pass with `controlled` has it."""
        raise InterfaceError(f"{type(self).__name__} has controlled, and no is_right: add the method.")

    @abstractmethod
    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """The figures by the name of what they are of; called when something was asked."""


@attrs.frozen(kw_only=True)
class TaskData:
    """What a task may know before it is evaluated.

    Attributes:
        model: Specs of the model; its streams are in the order in which they are written.
        perceives: The streams written once per image that the model was trained to write before answers, in order.
        units: The units that the data state, by what they are of: `{"depth": "metres"}`, or `"disparity"`.
        text: The text tokenizer.
    """

    model: ModelSpecs
    perceives: tuple[str, ...]
    units: Mapping[str, str]
    text: TextTokenizer


def _checked_own_turn(own_turn: Callable[[Any, str, Sample], Any]) -> Callable[[Any, str, Sample], Turn]:
    @functools.wraps(own_turn)
    def checked(self: Any, name: str, sample: Sample) -> Turn:
        turn = own_turn(self, name, sample)
        if not isinstance(turn, Turn):
            raise InterfaceError(f"{self.known_as}.own_turn returned {quoted(turn)}; it must return a Turn.")
        for said in ("question", "answer"):
            if not isinstance(getattr(turn, said), str):
                raise InterfaceError(
                    f"{self.known_as}.own_turn gave {quoted(getattr(turn, said))} as {said}; it must be text."
                )
        if turn.task != name:
            raise InterfaceError(
                f"{self.known_as}.own_turn gave a turn of the task {turn.task!r}; give it the name that it is given, "
                f"{name!r}."
            )
        if not all(0 <= x <= 1 and 0 <= y <= 1 for x, y in turn.points):
            raise InterfaceError(
                f"{self.known_as}.own_turn marked {quoted(turn.points)}; points are (x, y) in [0, 1]."
            )
        return turn

    return checked


def _checked_passes(
    passes: Callable[[Any, str, "TaskData"], Any],
) -> Callable[[Any, str, "TaskData"], Sequence[Pass]]:
    @functools.wraps(passes)
    def checked(self: Any, name: str, data: "TaskData") -> Sequence[Pass]:
        made = passes(self, name, data)
        if not isinstance(made, list | tuple) or not all(isinstance(one, Pass) for one in made):
            raise InterfaceError(
                f"{self.known_as}.passes returned {quoted(made)}; it must return a list of Pass."
            )
        return made

    return checked


class Task(Checked, ABC):
    """One kind of question.

    Attributes:
        required: The streams, written once per image, that its answer is about or is read from: they are written
            before it at the latest. Those that a model has not are left out.
        may_perceive: Whether other streams that are written once per image may precede its answer.
        about_objects: Whether its turns have objects, of each of which the streams per object are written.
        reads_points: Whether something is said of its marked points before the answer, in the answer formats
            `readout` and `lookup`. Training knows the levels of points that the data mark, and not of those in a
            turn that the task writes itself: before such an answer no levels are said.
        perception_only: Whether its answer is what is perceived and nothing else: a model that learns to answer
            without perceiving learns nothing of it.
        writes_turns: Whether it writes a turn itself, about any image that has the targets of `required`, so that the
            data need none. It is trained on where `data.mixture` names it, and evaluated where it was trained on.
    """

    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "own_turn": _checked_own_turn,
        "passes": _checked_passes,
    }
    required: tuple[str, ...] = ()
    may_perceive: bool = False
    about_objects: bool = False
    reads_points: bool = False
    perception_only: bool = False
    writes_turns: bool = False

    def own_turn(self, name: str, sample: Sample) -> Turn:
        """The turn about a sample, the same every time, of a task that `writes_turns`.

        Args:
            name: What the recipe calls the task, for `Turn.task`.
            sample: One that has the targets of `required`, with its picture and what else its files hold.
        """
        raise InterfaceError(f"{type(self).__name__} has writes_turns, and no own_turn: add the method.")

    def with_points_shuffled(self, turn: Turn, random: np.random.Generator) -> Turn:
        """The same question with its marked points in another order, and the answer changed with them.

        Called on every visit where `data.permute_marks` is set; by default points stay as they are.
        """
        return turn

    @abstractmethod
    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """The ways in which an evaluation asks its questions; none where such a model cannot answer them.

        Args:
            name: What the data call the task.
            data: What is known of model and data.
        """


@attrs.frozen(kw_only=True)
class TaskConfig(ComponentConfig, ABC):
    """Config of a task. Data can name a registered one that has a default for every setting."""

    def problems(self, turn: Turn) -> Iterable[str]:
        """What is wrong in a turn of the data, a sentence each; its masks are not read.

        Asked of the registered config with its defaults, when a folder is read and before one is written.
        """
        return ()

    @abstractmethod
    def build(self, model: ModelSpecs) -> Task:
        """The task for a model of these specs.

        Raises:
            RecipeError: It makes no sense in such a model.
        """
