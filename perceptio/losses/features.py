"""Losses of special tokens that stand for features of a teacher: squared error and cosine distance.

CoVT (arXiv 2511.19418) compares the rows of its head with a teacher's features by mean squared error. Its code uses
the weights 0.5 for DINOv2, 1.0 for InternViT, and 5.0 for SigLIP and MetaCLIP. Mirage (arXiv 2506.17218) compares
latent image tokens with pooled features of the image by their cosine.

Shapes: N blocks, m rows, P width of a row.
"""

from typing import ClassVar, Literal

import attrs
import torch
from torch.nn import functional as F

from perceptio.interfaces import (
    Batch,
    Kind,
    LossValue,
    ModelSpecs,
    PerceptionOutput,
    StreamLoss,
    StreamLossConfig,
)
from perceptio.losses.soft_reconstruction import known_difference, mean_known

Compared = Literal["rows", "decoded"]
"""What is compared with the features: the rows of the stream's head, or what its tokenizer decodes from them."""


class FeatureLoss(StreamLoss):
    """Base class of the two losses: each is a mean over the known features of a block, summed over blocks."""

    def __init__(self, stream: str, compare: Compared) -> None:
        super().__init__(stream, "rows_NmP" if compare == "rows" else "decoded")

    def count(self, batch: Batch) -> int:
        """Return the number of blocks with known features."""
        return self.num_known(batch)


class FeatureMSE(FeatureLoss):
    """Squared error, averaged over the known values of each block and summed over blocks."""

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        difference_NmP, known_NmP = known_difference(*self.compared(output, batch))
        total = mean_known(difference_NmP.square(), known_NmP).sum()
        return LossValue(total=total, count=self.count(batch))


class FeatureCosine(FeatureLoss):
    """1 - cosine between each row and its target, averaged over the known rows of a block and summed over blocks."""

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        made_NmP, targets_NmP = self.compared(output, batch)
        known_Nm = ~targets_NmP.isnan().any(-1)
        cosine_Nm = F.cosine_similarity(made_NmP, torch.where(known_Nm[..., None], targets_NmP, 0.0), dim=-1)
        return LossValue(total=mean_known(1 - cosine_Nm, known_Nm).sum(), count=self.count(batch))


@attrs.frozen(kw_only=True)
class FeatureLossConfig(StreamLossConfig):
    """Base class of the configs of the two losses.

    Attributes:
        compare: See `Compared`.
    """

    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    compare: Compared = "rows"


@attrs.frozen(kw_only=True)
class FeatureMSEConfig(FeatureLossConfig):
    """Mean squared error of features."""

    name: ClassVar[str] = "feature_mse"

    def build(self, model: ModelSpecs) -> FeatureMSE:
        """See `LossConfig.build`."""
        model.special_tokens(self.stream, f"the loss {self.name}")
        return FeatureMSE(self.stream, self.compare)


@attrs.frozen(kw_only=True)
class FeatureCosineConfig(FeatureLossConfig):
    """Cosine distance of features, which ignores their norms."""

    name: ClassVar[str] = "feature_cosine"

    def build(self, model: ModelSpecs) -> FeatureCosine:
        """See `LossConfig.build`."""
        model.special_tokens(self.stream, f"the loss {self.name}")
        return FeatureCosine(self.stream, self.compare)
