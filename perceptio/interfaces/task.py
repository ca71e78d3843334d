"""Tasks: how a conversation is written from a sample, which streams its answers need, and how answers are judged.

Shapes: B questions, L codes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from torch import Tensor

from perceptio.interfaces.component import ComponentConfig
from perceptio.interfaces.generation import GenerationSettings
from perceptio.interfaces.language import TextTokenizer
from perceptio.interfaces.model_specs import ModelSpecs
from perceptio.interfaces.records import Sample, Turn


@attrs.frozen(kw_only=True, eq=False)
class Case:
    """A sample, and what its blocks may be given in place of the model's own codes.

    Attributes:
        sample: The sample.
        true_codes: Codes [L] of its own targets, by stream; of streams that are written as codes once per image.
        other_codes: Those of another sample.
    """

    sample: Sample
    true_codes: Mapping[str, Tensor] = attrs.field(factory=dict)
    other_codes: Mapping[str, Tensor] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Question:
    """A question about a sample, asked with the model's own codes or with given ones, by stream."""

    sample: Sample
    turn: Turn
    codes: Mapping[str, Tensor] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Reply:
    """What a model replied.

    Attributes:
        question: To which question.
        text: The answer in words.
        decoded: What the written streams decode to, as `Answer.decoded` has it: of a stream per image a value, None
            where it was not written whole; of a stream per object a list.
        closed: Whether each block of codes ended where the model would have ended it, by stream.
    """

    question: Question
    text: str
    decoded: Mapping[str, Any]
    closed: Mapping[str, bool]


class Pass(ABC):
    """One way of asking, and its figures.

    Attributes:
        decodes: The streams of which a reply needs what they decode to; of the others it is not computed.
        asked: How many questions were asked.
    """

    decodes: tuple[str, ...] = ()

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


class Task(ABC):
    """One kind of question.

    Attributes:
        required: The streams without which its answer is nothing: they are written before it. Names that the model
            has not are left out.
        may_perceive: Whether streams that are written once per image may precede its answer at all.
        about_objects: Whether its turns have objects, of which streams that are written per object are written.
        reads_points: Whether its marked points are read out before the answer, in the `readout` answer format.
    """

    required: tuple[str, ...] = ()
    may_perceive: bool = False
    about_objects: bool = False
    reads_points: bool = False

    def own_turn(self) -> Turn | None:
        """The turn of a task that needs none in the data: of every image that has the targets of `required`."""
        return None

    def problems(self, turn: Turn) -> Iterable[str]:
        """What is wrong in a turn of the data, a sentence each."""
        return ()

    @abstractmethod
    def passes(self, name: str, data: "TaskData") -> Sequence[Pass]:
        """The ways in which an evaluation asks its questions.

        Args:
            name: By which the data call the task.
            data: What is known of model and data.
        """


@attrs.frozen(kw_only=True, eq=False)
class TaskData:
    """What a task may know before it is evaluated.

    Attributes:
        model: Specs of the model.
        perceives: The streams that the model was trained to write before answers, in order.
        depth_unit: Of the data's depth; None: they have none.
        text: The text tokenizer.
    """

    model: ModelSpecs
    perceives: tuple[str, ...]
    depth_unit: str | None
    text: TextTokenizer


@attrs.frozen(kw_only=True)
class TaskConfig(ComponentConfig, ABC):
    """Config of a task."""

    @abstractmethod
    def build(self, model: ModelSpecs) -> Task:
        """The task for a model of these specs.

        Raises:
            RecipeError: It makes no sense in such a model.
        """
