"""A task: which color a picture has most of. Question and answer are written from the picture itself."""

from typing import Any, ClassVar

import attrs

from perceptio.hookspecs import hookimpl
from perceptio.interfaces import GenerationSettings, Kind, Pass, Reply, Sample, Task, TaskConfig, Turn


class AskedColors(Pass):
    """The question about every sample, and how often the answer is right."""

    right = 0

    def settings(self, questions: Any) -> GenerationSettings:
        """A word, with nothing perceived before it."""
        return GenerationSettings(streams=(), max_new_tokens=2)

    def score(self, reply: Reply) -> None:
        """The first word of an answer is the color."""
        self.right += reply.text.lower().split()[:1] == [reply.question.turn.answer]

    def figures(self) -> dict[str, dict[str, Any]]:
        """Under the task's name."""
        return {self.task: {"accuracy": self.right / self.asked, "count": self.asked}}


class DominantColor(Task):
    """Asked of any picture: it requires no stream, and the data need no turn of it."""

    writes_turns = True

    def own_turn(self, name: str, sample: Sample) -> Turn:
        """The channel with the highest mean."""
        color = ("red", "green", "blue")[int(sample.image_3HW.mean((1, 2)).argmax())]
        return Turn(question="What color is most of the image?", answer=color, task=name)

    def passes(self, name: str, data: Any) -> list[Pass]:
        """Asked in one way."""
        return [AskedColors(name)]


@attrs.frozen(kw_only=True)
class DominantColorConfig(TaskConfig):
    """Which of red, green and blue a picture has most of."""

    name: ClassVar[str] = "dominant_color"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def build(self, model: Any) -> DominantColor:
        """The same task for every model."""
        return DominantColor()


@hookimpl
def register_tasks() -> list[type[TaskConfig]]:
    """What this file offers."""
    return [DominantColorConfig]
