"""Which of several points is closest, where a picture shows the points itself, as HardBLINK's do: a letter.

Where the points lie is known to nobody but who looks at the picture. So nothing is read out of the depth map at them,
and their letters cannot be shuffled. How many there are is not known either: folders of their own tell these apart.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from perceptio.errors import quoted
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
    Turn,
)
from perceptio.ops.intervals import wilson
from perceptio.ops.letters import LETTER_TOKENS, parse_letter


class DrawnPoints(Pass):
    """Every question, once.

    Args:
        task: What the data call the task.
        perceives: What the model writes before it answers, of every image.
        controlled: See `Pass.controlled`.
    """

    def __init__(self, task: str, perceives: tuple[str, ...], controlled: tuple[str, ...]) -> None:
        super().__init__(task)
        self.perceives, self.controlled = perceives, controlled
        self._right = self._unparsed = 0

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """Everything that is perceived is forced."""
        return GenerationSettings(
            streams=self.perceives, force=self.perceives, readout=False, max_new_tokens=LETTER_TOKENS
        )

    def score(self, reply: Reply) -> Kept:
        """The letter, and whether it is the right one."""
        letter, right = parse_letter(reply.text), self.is_right(reply)
        self._right += right
        self._unparsed += letter == ""
        return {self.task: {"right": right, "letter": letter}}

    def is_right(self, reply: Reply) -> bool:
        """Whether the answer is the right letter."""
        return parse_letter(reply.text) == parse_letter(reply.question.turn.answer)

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """`accuracy`, its `interval`, `count`, and `unparsed`: how many answers name no letter, which are wrong."""
        interval = list(wilson(self._right, self.asked))
        own = {"accuracy": self._right / self.asked, "interval": interval, "count": self.asked}
        return {self.task: own | {"unparsed": self._unparsed}}


class DrawnPointsTask(Task):
    """The closest of several points that the picture shows.

    Args:
        stream: The stream that the answer is to be told from.
    """

    may_perceive = True

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.required = (stream,)

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """All questions, once."""
        controlled = (self.stream,) if self.stream in data.perceives else ()
        return [DrawnPoints(name, data.perceives, controlled)]


@attrs.frozen(kw_only=True)
class DrawnPointsTaskConfig(TaskConfig):
    """Which of several points is closest, of points that are drawn on the picture; the answer is a letter.

    Attributes:
        stream: The stream that precedes the answer.
    """

    name: ClassVar[str] = "drawn_points"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    stream: str = "depth"

    def problems(self, turn: Turn) -> Iterable[str]:
        """See `TaskConfig.problems`: an answer is a letter, and points are not known."""
        if re.fullmatch(r"\([A-Z]\)", turn.answer) is None:
            yield (
                f"the answer {quoted(turn.answer)} of a {turn.task} turn is not a letter in parentheses, such as "
                '"(A)".'
            )
        if turn.points:
            yield (
                f"a {turn.task} turn has points, and the picture is to show them itself: call the task "
                "relative_depth, or leave the points out."
            )

    def build(self, model: ModelSpecs) -> DrawnPointsTask:
        """See `TaskConfig.build`."""
        return DrawnPointsTask(self.stream)
