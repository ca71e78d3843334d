"""Losses: each reads named fields of what the model computed, and is divided by a count of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import attrs
from torch import Tensor, nn

from perceptio.interfaces.component import ComponentConfig
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
