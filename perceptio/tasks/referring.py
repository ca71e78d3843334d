"""Referring expressions: the model writes the streams per object for each object that the expression refers to."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

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
)
from perceptio.ops.mask_metrics import MaskMeter, united
from perceptio.tasks.stream_figures import StreamFigures


class Expressions(Pass):
    """Asks every referring expression once. An answer without objects counts as an empty prediction.

    Args:
        task: The name of the task in the data.
        masks: The streams of masks. The union of all masks of an answer is compared with the union of the masks of
            the objects that the question is about.
        others: The other streams per object, compared object by object in order of mention.
    """

    def __init__(self, task: str, masks: tuple[str, ...], others: tuple[str, ...]) -> None:
        super().__init__(task)
        self.decodes, self.compares = masks, others
        self._masks = {stream: MaskMeter() for stream in masks}
        self._others = {stream: StreamFigures() for stream in others}

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """See `Pass.settings`: the model may write objects, and one token of text."""
        return GenerationSettings(streams=(*self.decodes, *self.compares), max_new_tokens=1)

    def score(self, reply: Reply) -> Kept:
        """See `Pass.score`: compares the written objects with those of the question."""
        image_3HW, truth = reply.question.sample.image_3HW, reply.question.turn.masks
        assert image_3HW is not None
        nothing_HW = np.zeros(tuple(image_3HW.shape[-2:]), dtype=bool)
        kept: dict[str, dict[str, Any]] = {}
        for stream, meter in self._masks.items():
            true_HW = united(truth)
            true_HW = nothing_HW if true_HW is None else true_HW
            kept[self._figure(stream)] = meter.update(united(reply.decoded[stream]), true_HW)
        for stream, figures in self._others.items():
            kept[self._figure(stream)] = figures.update(reply.compared[stream], expected=len(truth))
        return kept

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the metrics of the first stream of masks under the task's name, of others under `TASK_STREAM`."""
        computed = {stream: meter.compute() for stream, meter in self._masks.items()}
        computed |= {stream: figures.compute() for stream, figures in self._others.items()}
        return {self._figure(stream): figures for stream, figures in computed.items()}

    def _figure(self, stream: str) -> str:
        return self.task if stream in self.decodes[:1] else f"{self.task}_{stream}"


class ReferringTask(Task):
    """Questions whose answers are the objects that the model writes."""

    may_perceive = True
    about_objects = True
    perception_only = True

    def passes(self, name: str, data: TaskData) -> Sequence[Pass]:
        """See `Task.passes`: all expressions, or nothing if the model has no streams per object."""
        objects = {stream: one for stream, one in data.model.streams.items() if one.spec.per == "object"}
        masks = tuple(stream for stream, one in objects.items() if one.spec.shows_masks)
        others = tuple(stream for stream in objects if stream not in masks)
        return [Expressions(name, masks, others)] if objects else []


@attrs.frozen(kw_only=True)
class ReferringTaskConfig(TaskConfig):
    """A referring expression; the answer is every stream per object, written for each object that it refers to."""

    name: ClassVar[str] = "referring"
    kind: ClassVar[Kind] = Kind.TASK
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def build(self, model: ModelSpecs) -> ReferringTask:
        """See `TaskConfig.build`."""
        return ReferringTask()
