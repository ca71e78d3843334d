"""Which of several points is closest, if the points are drawn on the image, as in HardBLINK. The answer is a letter.

The data say neither where the points are nor how many there are. So nothing is read out of the depth map at them,
their letters cannot be shuffled, and results are not split by the number of points. For that, use one data folder for
each number.
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
    """Asks every question once.

    Args:
        task: The name of the task in the data.
        perceives: The streams that the model writes before it answers, for every image.
        controlled: See `Pass.controlled`.
    """

    def __init__(self, task: str, perceives: tuple[str, ...], controlled: tuple[str, ...]) -> None:
        super().__init__(task)
        self.perceives, self.controlled = perceives, controlled
        self._right = self._unparsed = 0

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """See `Pass.settings`: all streams are forced."""
        return GenerationSettings(
            streams=self.perceives, force=self.perceives, readout=False, max_new_tokens=LETTER_TOKENS
        )

    def score(self, reply: Reply) -> Kept:
        """See `Pass.score`: stores the letter and whether it is right."""
        letter, right = parse_letter(reply.text), self.is_right(reply)
        self._right += right
        self._unparsed += letter == ""
        return {self.task: {"right": right, "letter": letter}}

    def is_right(self, reply: Reply) -> bool:
        """See `Pass.is_right`: the letters agree."""
        return parse_letter(reply.text) == parse_letter(reply.question.turn.answer)

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return `accuracy`, its 95% `interval`, `count`, and `unparsed`, the number of answers without a letter.

        Answers without a letter count as wrong.
        """
        interval = list(wilson(self._right, self.asked))
        own = {"accuracy": self._right / self.asked, "interval": interval, "count": self.asked}
        return {self.task: own | {"unparsed": self._unparsed}}


class DrawnPointsTask(Task):
    """The closest of several points that are drawn on the image.

    Args:
        stream: The stream that is written before the answer.
    """

    may_perceive = True

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.required = (stream,)

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """See `Task.passes`: all questions once."""
        controlled = (self.stream,) if self.stream in data.perceives else ()
        return [DrawnPoints(name, data.perceives, controlled)]


@attrs.frozen(kw_only=True)
class DrawnPointsTaskConfig(TaskConfig):
    """Which of several points, drawn on the image, is closest; the answer is a letter.

    Attributes:
        stream: The stream that is written before the answer.
    """

    name: ClassVar[str] = "drawn_points"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    stream: str = "depth"

    def problems(self, turn: Turn) -> Iterable[str]:
        """See `TaskConfig.problems`: the answer must be a letter, and the turn must not have points."""
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
