"""Soft merging: the map decoded from the predicted distribution over codes, against the true one.

The paper's idea, for depth; the formula is ours. The gradient passes the frozen decoder and the merged latents to the
logits of codes; the codebook, the decoder's weights and the target are left alone.

Shapes: N blocks, C channels, H W pixels of the tokenizer's maps.
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Batch,
    Kind,
    LossValue,
    ModelSpecs,
    PerceptionOutput,
    StreamLoss,
    StreamLossConfig,
)


class SoftReconstruction(StreamLoss):
    """Smooth L1 plus L1 between slopes, averaged over each block's known values and summed over blocks."""

    def __init__(self, stream: str, beta: float, slope_weight: float) -> None:
        super().__init__(stream, "soft")
        self.beta = beta
        self.slope_weight = slope_weight

    def count(self, batch: Batch) -> int:
        """The blocks whose map is known."""
        return self.num_known(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`; the metric is the mean absolute error."""
        difference_NCHW, known_NCHW = known_difference(*self.compared(output, batch))
        zero = torch.zeros_like(difference_NCHW)
        values_NCHW = F.smooth_l1_loss(difference_NCHW, zero, beta=self.beta, reduction="none")
        total = mean_known(values_NCHW, known_NCHW).sum()
        total = total + self.slope_weight * self._slopes(difference_NCHW, known_NCHW).sum()
        error_N = mean_known(difference_NCHW.detach().abs(), known_NCHW)
        return LossValue(total=total, count=self.count(batch), metrics={"absolute_error": error_N.sum()})

    def _slopes(self, difference_NCHW: Tensor, known_NCHW: Tensor) -> Tensor:
        """Mean difference [N] between the slopes of the two maps, over neighbors of which both are known."""
        values, known = [], []
        for axis in (-2, -1):
            steps = difference_NCHW.diff(dim=axis).abs()
            size = steps.shape[axis]
            both = known_NCHW.narrow(axis, 0, size) & known_NCHW.narrow(axis, 1, size)
            values.append(steps.flatten(1))
            known.append(both.flatten(1))
        return mean_known(torch.cat(values, 1), torch.cat(known, 1))


def known_difference(made: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What was made minus its targets, 0 where they are NaN, and where they are not; of any one shape."""
    known = ~targets.isnan()
    return torch.where(known, made - targets, 0.0), known  # NaN times 0 would be NaN.


def mean_known(values: Tensor, known: Tensor) -> Tensor:
    """Mean over the known elements of each row [N, ...] -> [N]; 0 where none is known."""
    known_NX = known.flatten(1)
    return (values.flatten(1) * known_NX).sum(1) / known_NX.sum(1).clamp(min=1)


@attrs.frozen(kw_only=True)
class SoftReconstructionConfig(StreamLossConfig):
    """Reconstruction of maps [N, C, H, W] from softly merged codes.

    Attributes:
        beta: Difference, in the map's own units, at which smooth L1 turns from quadratic to linear; that of depth is
            in [0, 1].
        slope_weight: Weight of the L1 between the slopes of the two maps.
    """

    name: ClassVar[str] = "soft_reconstruction"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    beta: float = 0.05
    slope_weight: float = 0.5

    def __attrs_post_init__(self) -> None:
        if self.beta < 0 or self.slope_weight < 0:
            raise RecipeError(
                f"{self.term}: beta {self.beta} and slope_weight {self.slope_weight} must not be below 0."
            )

    def build(self, model: ModelSpecs) -> SoftReconstruction:
        """See `LossConfig.build`."""
        model.block(self.stream, f"the loss {self.name}")
        return SoftReconstruction(self.stream, self.beta, self.slope_weight)
