"""The loss of soft merging: the map decoded from the predicted distributions over codes, against the true map.

The idea is the paper's, for depth; the formula is ours. The gradient flows through the frozen decoder and the merged
latents to the logits of codes. The codebook, the decoder's weights and the target receive none.

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
    """Smooth L1 of values plus L1 of slopes, averaged over each block's known values and summed over blocks."""

    def __init__(self, stream: str, beta: float, slope_weight: float) -> None:
        super().__init__(stream, "soft")
        self.beta = beta
        self.slope_weight = slope_weight

    def count(self, batch: Batch) -> int:
        """Return the number of blocks with a known map."""
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
        """Return the mean absolute difference [N] of the maps' slopes, over pairs of known neighboring pixels."""
        values, known = [], []
        for axis in (-2, -1):
            steps = difference_NCHW.diff(dim=axis).abs()
            size = steps.shape[axis]
            both = known_NCHW.narrow(axis, 0, size) & known_NCHW.narrow(axis, 1, size)
            values.append(steps.flatten(1))
            known.append(both.flatten(1))
        return mean_known(torch.cat(values, 1), torch.cat(known, 1))


def known_difference(made: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return predictions minus targets, 0 where targets are NaN, and a mask of the known targets; of any shape."""
    known = ~targets.isnan()
    return torch.where(known, made - targets, 0.0), known  # NaN times 0 would be NaN.


def mean_known(values: Tensor, known: Tensor) -> Tensor:
    """Return the mean [N] over the known elements of each row [N, ...]; 0 if none is known."""
    known_NX = known.flatten(1)
    return (values.flatten(1) * known_NX).sum(1) / known_NX.sum(1).clamp(min=1)


@attrs.frozen(kw_only=True)
class SoftReconstructionConfig(StreamLossConfig):
    """Smooth L1 and slope error of maps [N, C, H, W] that are decoded from softly merged codes.

    Attributes:
        beta: The difference at which smooth L1 changes from quadratic to linear, in the units of the map, which are
            [0, 1] for depth. At least 0.
        slope_weight: The weight of the L1 between the slopes of the two maps, at least 0.

    Raises:
        RecipeError: A value is below 0.
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
