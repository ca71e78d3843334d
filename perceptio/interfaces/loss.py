"""Losses: each reads named fields of what the model computed, and is divided by a count of its own."""

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
    """A term as a sum over its items, not yet divided, so that counts can be added over ranks and micro-steps.

    `metrics` are further sums over the same items (detached), reported divided by `count`.
    """

    total: Tensor
    count: int
    metrics: Mapping[str, Tensor] = attrs.field(factory=dict)


class Loss(nn.Module, ABC):
    """One term of the training objective. It reads; it never changes what it reads and never holds a model.

    `required_outputs` names the fields of `PerceptionOutput` it needs: the model computes what any loss requires,
    once. A field of a stream is `"streams.NAME.FIELD"`, such as `"streams.depth.logits_NXV"`, and the auxiliary head
    of a stream `"heads.NAME"`.
    """

    required_outputs: tuple[str, ...]

    @abstractmethod
    def count(self, batch: Batch) -> int:
        """How many items of the batch the term is a sum over; known before the forward, from the batch alone."""

    @abstractmethod
    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """The term; with `count == 0` it is not called and contributes exactly 0."""


class StreamLoss(Loss, ABC):
    """A loss that compares one field of what was computed of a stream with the stream's targets or codes.

    Args:
        stream: The stream's name.
        field: Of `StreamOutput`.
    """

    def __init__(self, stream: str, field: str) -> None:
        super().__init__()
        self.stream = stream
        self.field = field
        self.required_outputs = (f"streams.{stream}.{field}",)

    def num_written(self, batch: Batch) -> int:
        """How many blocks, or objects, the batch writes."""
        stream = batch.streams.get(self.stream)
        return 0 if stream is None else len(stream)

    def num_known(self, batch: Batch) -> int:
        """How many of them have a target that is known."""
        stream = batch.streams.get(self.stream)
        return 0 if stream is None else sum(stream.known)

    def computed(self, output: PerceptionOutput) -> Any:
        """The field."""
        value = getattr(output.streams[self.stream], self.field)
        assert value is not None
        return value

    def targets(self, batch: Batch) -> Any:
        """The target of each block or object, NaN where unknown."""
        stream = batch.streams[self.stream]
        return stream.targets[stream.target_N]

    def compared(self, output: PerceptionOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """The field and its targets, for losses that compare number by number; both in float32 and of one shape.

        Raises:
            InterfaceError: They are no tensors of one shape.
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
        """What the term is called in a recipe and in the log, after its loss; unlike that of any other."""
        return self.name

    @abstractmethod
    def build(self, model: ModelSpecs) -> Loss:
        """The loss for a model of these specs. A recipe is checked by building its losses.

        Raises:
            RecipeError: The loss makes no sense in such a model; the sentence says what it wants.
        """


@attrs.frozen(kw_only=True)
class StreamLossConfig(LossConfig, ABC):
    """Config of a loss that is about one stream; it may be given once for each.

    Attributes:
        stream: The stream's name.
    """

    stream: str

    @property
    def term(self) -> str:
        """The stream and the loss: `depth_token`."""
        return f"{self.stream}_{self.name}"
