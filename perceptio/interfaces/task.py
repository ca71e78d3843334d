"""Tasks: which streams the answers to a kind of question need, and how the answers are scored.

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
    """A sample, and codes that its questions may be given in place of those that the model would write.

    Attributes:
        sample: The sample.
        true_codes: The codes [L] of the sample's own targets, for the streams in `Pass.gives` whose target it has.
        other_codes: The codes [L] of another sample's targets, for the same streams.
    """

    sample: Sample
    true_codes: Mapping[str, Tensor] = attrs.field(factory=dict)
    other_codes: Mapping[str, Tensor] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Question:
    """A question about a sample. `codes` holds the codes [L] that are given instead of written, by stream."""

    sample: Sample
    turn: Turn
    codes: Mapping[str, Tensor] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Reply:
    """A model's reply to a question.

    Attributes:
        question: The question.
        text: The answer in words.
        decoded: The decoded value of each stream in `Pass.decodes`, as in `Answer.decoded`. For a stream per image,
            one value, or None if the stream is incomplete; for a stream per object, a list.
        closed: For each stream that is written once per image, whether the model would have ended it at that place.
        compared: For each stream in `Pass.compares`, the metrics of its tokenizer's `compare`, by name. For a stream
            per image, one number, or none if the stream is incomplete or has no target. For a stream per object, one
            number for each pair of a written object and an object of the turn.
        readout: The code or level written for each marked point before the answer, as in `Answer.readout`.
    """

    question: Question
    text: str
    decoded: Mapping[str, Any] = attrs.field(factory=dict)
    closed: Mapping[str, bool] = attrs.field(factory=dict)
    compared: Mapping[str, Mapping[str, tuple[float, ...]]] = attrs.field(factory=dict)
    readout: tuple[int, ...] = ()


Kept = Mapping[str, Mapping[str, Any]] | None
"""What is stored about a reply besides its text; see `Pass.score`."""


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
    """Return whether the values stored for one name are plain JSON values, and `right`, if present, is a bool."""
    if not isinstance(scored, Mapping) or not isinstance(scored.get("right", True), bool):
        return False
    values = (
        one for held in scored.values() for one in (held if isinstance(held, list | tuple) else (held,))
    )
    return all(one is None or isinstance(one, bool | int | float | str) for one in values)


class Pass(Checked, ABC):
    """One way of asking the questions of a task, with its metrics.

    All questions of a pass have codes given for the same streams.

    Attributes:
        decodes: The streams whose decoded values replies contain (`Reply.decoded`).
        compares: The streams that are compared with the sample's targets (`Reply.compared`).
        gives: The streams whose codes its questions are given.
        controlled: The streams, written once per image before the answers, for which controls can be run: the same
            questions with something else in place of what the model wrote. Such a pass implements `is_right`.
        asked: The number of questions asked so far.

    Args:
        task: The name of the task in the data.
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
        """Return the questions about a sample: by default its turns of this task, or the turn that the task wrote."""
        return [
            Question(sample=case.sample, turn=turn) for turn in case.sample.turns if turn.task == self.task
        ]

    @abstractmethod
    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """Return the generation settings for a batch of questions."""

    @abstractmethod
    def score(self, reply: Reply) -> Kept:
        """Add a reply to the metrics.

        Returns:
            What to store about the reply besides its text, under the names that `figures` uses:
            `{"relative_depth": {"right": True, "letter": "B"}}`. `right` says whether the answer is correct;
            `perceptio compare` reads it. None: store nothing.
        """

    def is_right(self, reply: Reply) -> bool:
        """Return whether the text of a reply is correct, without adding it to the metrics.

        A pass with `controlled` must implement it.
        """
        raise InterfaceError(f"{type(self).__name__} has controlled, and no is_right: add the method.")

    @abstractmethod
    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the metrics, grouped by name, such as the name of the task. Called only if something was asked."""


@attrs.frozen(kw_only=True)
class TaskData:
    """What a task is told about model and data before an evaluation.

    Attributes:
        model: The specs of the model. Its streams are in the order in which they are written.
        perceives: The streams, written once per image, that the model was trained to write before answers, in order.
        units: The units of the data, by target: `{"depth": "metres"}` or `{"depth": "disparity"}`.
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
        required: The streams, written once per image, that its answer is about or is read from. They are written
            before the answer. Streams that the model does not have are skipped.
        may_perceive: Whether other streams that are written once per image may be written before its answer.
        about_objects: Whether its turns have objects. Streams per object are then written once for each of them.
        reads_points: Whether the code or level of each marked point is written before the answer, in the answer
            formats `readout` and `lookup`. Training knows the levels of points that the data mark, but not of points
            in turns that the task writes itself. No levels are written before such answers.
        perception_only: Whether the answer consists only of what is perceived. A model that learns to answer without
            perceiving learns nothing from such a task.
        writes_turns: Whether the task writes its turn itself, about any image that has the targets of `required`, so
            that the data need no turns of it. It is trained if `data.mixture` names it, and evaluated if it was
            trained.
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
        """Return the turn about a sample, the same every time. A task with `writes_turns` must implement it.

        Args:
            name: The name of the task in the recipe, for `Turn.task`.
            sample: A sample that has the targets of `required`, with its image and everything else in its files.
        """
        raise InterfaceError(f"{type(self).__name__} has writes_turns, and no own_turn: add the method.")

    def with_points_shuffled(self, turn: Turn, random: np.random.Generator) -> Turn:
        """Return the same question with its marked points in random order, and the answer changed accordingly.

        Called each time training visits the turn, if `data.permute_marks` is set. By default the turn is unchanged.
        """
        return turn

    @abstractmethod
    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """Return the ways in which an evaluation asks the questions; empty if such a model cannot answer them.

        Args:
            name: The name of the task in the data.
            data: What is known about model and data.
        """


@attrs.frozen(kw_only=True)
class TaskConfig(ComponentConfig, ABC):
    """Config of a task. A data folder can name a registered task if all its settings have defaults."""

    def problems(self, turn: Turn) -> Iterable[str]:
        """Return what is wrong with a turn of the data, one sentence per problem; its masks are not read.

        Called on the registered config with its defaults, when a folder is read and before one is written.
        """
        return ()

    @abstractmethod
    def build(self, model: ModelSpecs) -> Task:
        """Build the task for a model of these specs.

        Raises:
            RecipeError: The task does not suit such a model.
        """
