"""Questions that are answered by one stream of the whole image, such as a depth map, an edge map or features."""

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
    """Asks for a stream once per image that has its target, with a question of its own.

    Args:
        task: The name of the task in the data and of its metrics.
        stream: The name of the stream.
        target: The `target` of the stream.
        turn: The question.
    """

    def __init__(self, task: str, stream: str, target: str, turn: Turn) -> None:
        super().__init__(task)
        self.stream, self.target, self.turn = stream, target, turn

    def questions(self, case: Case) -> Iterable[Question]:
        """See `Pass.questions`: one per sample that has the target."""
        known = case.sample.has_target(self.target)
        return [Question(sample=case.sample, turn=self.turn)] if known else []

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """See `Pass.settings`: the stream and one token of text."""
        return GenerationSettings(
            streams=(self.stream,), force=(self.stream,), readout=False, max_new_tokens=1
        )


class DepthMaps(WrittenMaps):
    """Asks for depth maps and compares them with the ground truth.

    Args:
        task: The name of the task in the data and of its metrics.
        stream: The name of the stream.
        turn: The question.
        metric: Whether maps and ground truth are both in metres.
    """

    def __init__(self, task: str, stream: str, turn: Turn, *, metric: bool) -> None:
        super().__init__(task, stream, "depth", turn)
        self.decodes = (stream,)
        self._maps = DepthFigures(metric)

    def score(self, reply: Reply) -> Kept:
        """See `Pass.score`: compares the map with the ground truth."""
        return {self.task: self._maps.update(reply, reply.decoded[self.stream])}

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the metrics under the name of the task."""
        return {self.task: self._maps.compute()}


class ComparedMaps(WrittenMaps):
    """Asks for any other stream and compares it with its tokenizer's `compare`."""

    def __init__(self, task: str, stream: str, target: str, turn: Turn) -> None:
        super().__init__(task, stream, target, turn)
        self.compares = (stream,)
        self._figures = StreamFigures()

    def score(self, reply: Reply) -> Kept:
        """See `Pass.score`: compares the written stream with the target."""
        return {self.task: self._figures.update(reply.compared[self.stream], expected=1)}

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the metrics under the name of the task."""
        return {self.task: self._figures.compute()}


class MapTask(Task):
    """A question that is answered by writing a stream; the words after it carry no information.

    Args:
        stream: The name of the stream.
        question: The text of the question.
        answer: The text after the stream.
    """

    may_perceive = True
    perception_only = True
    writes_turns = True

    def __init__(self, stream: str, question: str, answer: str) -> None:
        self.stream, self.question, self.answer = stream, question, answer
        self.required = (stream,)

    def own_turn(self, name: str, sample: Sample) -> Turn:
        """See `Task.own_turn`: the same for every image."""
        return self._turn(name)

    def _turn(self, name: str) -> Turn:
        return Turn(question=self.question, answer=self.answer, task=name)

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """See `Task.passes`: its question for every image, or nothing if the stream is not written once per image."""
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
    """A question for a stream of the whole image, such as a depth map. The data need no turns of it.

    Every stream that is written once per image has such a task, named after it: `depth_map`, `edges_map`. To change
    its texts, set `tasks={"edges_map": MapTaskConfig(stream="edges", question="Where are edges?")}` in the recipe.

    Attributes:
        stream: The stream that is written.
        question: The text of the question. None: "What is the STREAM map of this image?".
        answer: The text after the stream.
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
