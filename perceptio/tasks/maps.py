"""What is written of a whole image as an answer of its own: a depth map, a map of edges, features."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from perceptio.interfaces import (
    Case,
    DepthSpec,
    GenerationSettings,
    Kept,
    Kind,
    ModelSpecs,
    Pass,
    Question,
    Reply,
    Sample,
    Task,
    TaskConfig,
    TaskData,
    Turn,
)
from perceptio.tasks.depth_figures import DepthFigures, in_metres
from perceptio.tasks.stream_figures import StreamFigures


class WrittenMaps(Pass):
    """A stream is asked for by its own question, once for every image that has its target.

    Args:
        task: What the data call the task, and the figures are called.
        stream: The stream.
        target: What it is learned from.
        turn: The question.
    """

    def __init__(self, task: str, stream: str, target: str, turn: Turn) -> None:
        super().__init__(task)
        self.stream, self.target, self.turn = stream, target, turn

    def questions(self, case: Case) -> Iterable[Question]:
        """One per sample with the target."""
        known = case.sample.has_target(self.target)
        return [Question(sample=case.sample, turn=self.turn)] if known else []

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """The stream and a token of text."""
        return GenerationSettings(
            streams=(self.stream,), force=(self.stream,), readout=False, max_new_tokens=1
        )


class DepthMaps(WrittenMaps):
    """Depth maps against the truth.

    Args:
        task: What the data call the task, and the figures are called.
        stream: The stream.
        turn: The question.
        metric: Whether maps and truth are both in metres.
    """

    def __init__(self, task: str, stream: str, turn: Turn, *, metric: bool) -> None:
        super().__init__(task, stream, "depth", turn)
        self.decodes = (stream,)
        self._maps = DepthFigures(metric)

    def score(self, reply: Reply) -> Kept:
        """The map against the truth."""
        return {self.task: self._maps.update(reply, reply.decoded[self.stream])}

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Under the task's name."""
        return {self.task: self._maps.compute()}


class ComparedMaps(WrittenMaps):
    """Any other stream, by what its tokenizer's `compare` says."""

    def __init__(self, task: str, stream: str, target: str, turn: Turn) -> None:
        super().__init__(task, stream, target, turn)
        self.compares = (stream,)
        self._figures = StreamFigures()

    def score(self, reply: Reply) -> Kept:
        """What was written against the target."""
        return {self.task: self._figures.update(reply.compared[self.stream], expected=1)}

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Under the task's name."""
        return {self.task: self._figures.compute()}


class MapTask(Task):
    """The answer is the stream; the words after it only say that it is there.

    Args:
        stream: The stream.
        question: What is asked.
        answer: What is said after it.
    """

    may_perceive = True
    perception_only = True
    writes_turns = True

    def __init__(self, stream: str, question: str, answer: str) -> None:
        self.stream, self.question, self.answer = stream, question, answer
        self.required = (stream,)

    def own_turn(self, name: str, sample: Sample) -> Turn:
        """See `Task.own_turn`: the same of every image."""
        return self._turn(name)

    def _turn(self, name: str) -> Turn:
        return Turn(question=self.question, answer=self.answer, task=name)

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """Its question about every image; none where the model does not write the stream once per image."""
        if self.stream not in data.model.streams:
            return []
        specs, turn = data.model.streams[self.stream], self._turn(name)
        if specs.spec.per != "image":
            return []
        if isinstance(specs.tokenizer, DepthSpec):
            metric = in_metres(specs.tokenizer, data.units)
            return [DepthMaps(name, self.stream, turn, metric=metric)]
        return [ComparedMaps(name, self.stream, specs.spec.target, turn)]


@attrs.frozen(kw_only=True)
class MapTaskConfig(TaskConfig):
    """A question for what is written of a whole image. It needs no turns in the data.

    Every stream that is written once per image has such a task, called after it: `depth_map`, `edges_map`. Its words
    are set by `recipe.tasks={"edges_map": MapTaskConfig(stream="edges", question="Where are edges?")}`.

    Attributes:
        stream: The stream that is written.
        question: What is asked; None: "What is the STREAM map of this image?".
        answer: What is said after it.
    """

    name: ClassVar[str] = "map"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    stream: str
    question: str | None = None
    answer: str = "Done."

    def build(self, model: ModelSpecs) -> MapTask:
        """See `TaskConfig.build`."""
        question = self.question or f"What is the {self.stream.replace('_', ' ')} map of this image?"
        return MapTask(self.stream, question, self.answer)
