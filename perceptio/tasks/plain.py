"""Questions that are answered in words, where the whole answer must agree."""

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
    """Every question of a task; the whole answer must agree.

    Args:
        task: What the data call the task.
        figure: What the share of right answers is called.
        streams: What the model may perceive before it answers, where it chooses to.
        text: With which answers are counted.
    """

    def __init__(self, task: str, figure: str, streams: tuple[str, ...], text: TextTokenizer) -> None:
        super().__init__(task)
        self.figure, self.streams, self.text = figure, streams, text
        self.controlled = streams
        self._right = 0

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """At most twice the tokens of the longest answer, which may be split otherwise."""
        longest = max(len(self.text.encode(question.turn.answer)) for question in questions)
        return GenerationSettings(streams=self.streams, readout=False, max_new_tokens=2 * longest + 2)

    def score(self, reply: Reply) -> Kept:
        """Whether the answer is right."""
        right = self.is_right(reply)
        self._right += right
        return {self.task: {"right": right}}

    def is_right(self, reply: Reply) -> bool:
        """Whether the answers agree, but for case and blanks around them."""
        return reply.text.strip().lower() == reply.question.turn.answer.strip().lower()

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Their share under the task's name."""
        interval = list(wilson(self._right, self.asked))
        return {self.task: {self.figure: self._right / self.asked, "interval": interval, "count": self.asked}}


class PlainTask(Task):
    """Words alone.

    Args:
        figure: What the share of right answers is called.
        may_perceive: Whether streams that are written once per image may precede the answer.
    """

    def __init__(self, figure: str, may_perceive: bool) -> None:
        self.figure, self.may_perceive = figure, may_perceive

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """All questions, once."""
        streams = data.perceives if self.may_perceive else ()
        return [PlainQuestions(name, self.figure, streams, data.text)]


@attrs.frozen(kw_only=True)
class PlainTaskConfig(TaskConfig):
    """A question that is answered in words; every task that nobody registered is one.

    Attributes:
        may_perceive: Whether the streams that are written once per image may precede its answer, as in CoVT
            (arXiv 2511.19418); otherwise it is answered at once.
        figure: What the share of right answers is called.
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
    """A question about an attribute of what is seen, answered in a word."""

    name: ClassVar[str] = "attribute"

    figure: str = "accuracy"
