"""Losses: each reads named fields of the model's output and is divided by a count of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import attrs
from torch import Tensor, nn

from perceptio.errors import InterfaceError
from perceptio.interfaces.component import ComponentConfig, described
from perceptio.interfaces.model_specs import ModelSpecs
from perceptio.interfaces.records import Batch, PerceptionOutput


@attrs.frozen(kw_only=True, eq=False)
class LossValue:
    """The value of a loss term: a sum over items and their count, which can be added over ranks and micro-steps.

    Attributes:
        total: The sum over the items, not yet divided.
        count: The number of items.
        metrics: Further sums over the same items, detached; they are reported divided by `count`.
    """

    total: Tensor
    count: int
    metrics: Mapping[str, Tensor] = attrs.field(factory=dict)


class Loss(nn.Module, ABC):
    """One term of the training objective. A loss never changes the values that it reads and never holds a model.

    `required_outputs` lists the fields of `PerceptionOutput` that the loss reads. The model computes each field that
    any loss requires, once. The field of a stream is written `"streams.NAME.FIELD"`, such as
    `"streams.depth.logits_NXV"`, and the auxiliary head of a stream `"heads.NAME"`.
    """

    required_outputs: tuple[str, ...]

    @abstractmethod
    def count(self, batch: Batch) -> int:
        """Return the number of items that the term sums over. It depends on the batch alone, not on the output."""

    @abstractmethod
    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """Compute the term. It is not called if `count` is 0; the term then contributes exactly 0."""


class StreamLoss(Loss, ABC):
    """A loss that compares one output field of a stream with the stream's targets or codes.

    Args:
        stream: The name of the stream.
        field: The name of the field of `StreamOutput`.
    """

    def __init__(self, stream: str, field: str) -> None:
        super().__init__()
        self.stream = stream
        self.field = field
        self.required_outputs = (f"streams.{stream}.{field}",)

    def num_written(self, batch: Batch) -> int:
        """Return how many blocks or objects of the stream the batch writes."""
        stream = batch.streams.get(self.stream)
        return 0 if stream is None else len(stream)

    def num_known(self, batch: Batch) -> int:
        """Return how many of these blocks or objects have a known target."""
        stream = batch.streams.get(self.stream)
        return 0 if stream is None else sum(stream.known)

    def computed(self, output: PerceptionOutput) -> Any:
        """Return the output field."""
        value = getattr(output.streams[self.stream], self.field)
        assert value is not None
        return value

    def targets(self, batch: Batch) -> Any:
        """Return the target of each block or object, NaN where unknown."""
        stream = batch.streams[self.stream]
        return stream.targets[stream.target_N]

    def compared(self, output: PerceptionOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the field and its targets in float32 with the same shape, for losses that compare elementwise.

        Raises:
            InterfaceError: They are not tensors of the same shape.
        """
        made, targets = self.computed(output), self.targets(batch)
        shapes = [getattr(value, "shape", None) for value in (made, targets)]
        if not isinstance(made, Tensor) or shapes[0] != shapes[1]:
            raise InterfaceError(
                f"What was computed as {self.required_outputs[0]} is {described(made)}, and its targets are "
                f"{described(targets)}: {type(self).__name__} compares tensors of one shape; use another loss, or "
                "another tokenizer for the stream."
            )
        return made.float(), targets.float()


@attrs.frozen(kw_only=True)
class LossConfig(ComponentConfig, ABC):
    """Config of a loss."""

    @property
    def term(self) -> str:
        """The unique name of the term in a recipe and in the log; by default the name of the loss."""
        return self.name

    @abstractmethod
    def build(self, model: ModelSpecs) -> Loss:
        """Build the loss for a model of these specs. The check of a recipe also builds its losses.

        Raises:
            RecipeError: The loss does not suit such a model; the message says what it needs.
        """


@attrs.frozen(kw_only=True)
class StreamLossConfig(LossConfig, ABC):
    """Config of a loss of one stream. A recipe may use it once per stream.

    Attributes:
        stream: The name of the stream.
    """

    stream: str

    @property
    def term(self) -> str:
        """The names of the stream and the loss, such as `depth_token`."""
        return f"{self.stream}_{self.name}"
