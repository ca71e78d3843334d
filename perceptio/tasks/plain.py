"""Questions that are answered in words, scored by exact match of the whole answer."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from perceptio.interfaces import (
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
    TextTokenizer,
)
from perceptio.ops.intervals import wilson


class PlainQuestions(Pass):
    """Asks every question of a task once, and scores by exact match of the whole answer.

    Args:
        task: The name of the task in the data.
        figure: The name of the share of right answers.
        streams: The streams that the model may write before it answers, if it chooses to.
        text: The text tokenizer, to measure the length of answers.
    """

    def __init__(self, task: str, figure: str, streams: tuple[str, ...], text: TextTokenizer) -> None:
        super().__init__(task)
        self.figure, self.streams, self.text = figure, streams, text
        self.controlled = streams
        self._right = 0

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """See `Pass.settings`: allows 2 + twice the longest answer's tokens, as a model may split it otherwise."""
        longest = max(len(self.text.encode(question.turn.answer)) for question in questions)
        return GenerationSettings(streams=self.streams, readout=False, max_new_tokens=2 * longest + 2)

    def score(self, reply: Reply) -> Kept:
        """See `Pass.score`: stores whether the answer is right."""
        right = self.is_right(reply)
        self._right += right
        return {self.task: {"right": right}}

    def is_right(self, reply: Reply) -> bool:
        """See `Pass.is_right`: the answers agree, apart from case and surrounding whitespace."""
        return reply.text.strip().lower() == reply.question.turn.answer.strip().lower()

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the share of right answers, its 95% `interval` and the `count`, under the name of the task."""
        interval = list(wilson(self._right, self.asked))
        return {self.task: {self.figure: self._right / self.asked, "interval": interval, "count": self.asked}}


class PlainTask(Task):
    """Questions that are answered in words.

    Args:
        figure: The name of the share of right answers.
        may_perceive: Whether streams that are written once per image may be written before the answer.
    """

    def __init__(self, figure: str, may_perceive: bool) -> None:
        self.figure, self.may_perceive = figure, may_perceive

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """See `Task.passes`: all questions once."""
        streams = data.perceives if self.may_perceive else ()
        return [PlainQuestions(name, self.figure, streams, data.text)]


@attrs.frozen(kw_only=True)
class PlainTaskConfig(TaskConfig):
    """A question that is answered in words. Used for every task name that is not registered.

    Attributes:
        may_perceive: Whether streams that are written once per image may be written before its answer, as in CoVT
            (arXiv 2511.19418). Otherwise it is answered at once.
        figure: The name of the share of right answers.
    """

    name: ClassVar[str] = "plain"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    may_perceive: bool = False
    figure: str = "exact_match"

    def build(self, model: ModelSpecs) -> PlainTask:
        """See `TaskConfig.build`."""
        return PlainTask(self.figure, self.may_perceive)


@attrs.frozen(kw_only=True)
class AttributeTaskConfig(PlainTaskConfig):
    """A question about an attribute of an object in the image, answered in a word."""

    name: ClassVar[str] = "attribute"

    figure: str = "accuracy"
