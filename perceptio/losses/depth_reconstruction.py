"""Soft merging: the depth map decoded from the predicted distribution over codes, against the teacher's.

The paper's idea; the formula is ours. The gradient passes the frozen depth decoder and the merged latents to the code
logits; the codebook, the decoder's weights and the target are left alone.

Shapes: S depth blocks, H W pixels of the depth tokenizer.
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import Batch, Kind, Loss, LossConfig, LossValue, ModelSpecs, PerceptionOutput
from perceptio.losses.depth_tokens import depth_block_of


class DepthReconstructionLoss(Loss):
    """Smooth L1 plus L1 between slopes, averaged over each block's known pixels and summed over blocks."""

    required_outputs = ("soft_depth_S1HW",)

    def __init__(self, beta: float, slope_weight: float) -> None:
        super().__init__()
        self.beta = beta
        self.slope_weight = slope_weight

    def count(self, batch: Batch) -> int:
        """The blocks whose image has a known pixel."""
        known_B = ~batch.depth_B1HW.isnan().flatten(1).all(1)
        return int(known_B[batch.block_image_S].sum())

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        assert output.soft_depth_S1HW is not None
        target_S1HW = batch.depth_B1HW[batch.block_image_S]
        known_S1HW = ~target_S1HW.isnan()
        # An unknown pixel differs by 0; NaN times 0 would be NaN.
        difference_S1HW = torch.where(known_S1HW, output.soft_depth_S1HW.float() - target_S1HW, 0.0)
        zero = torch.zeros_like(difference_S1HW)
        values_S1HW = F.smooth_l1_loss(difference_S1HW, zero, beta=self.beta, reduction="none")
        total = mean_known(values_S1HW, known_S1HW).sum()
        total = total + self.slope_weight * self._slopes(difference_S1HW, known_S1HW).sum()
        error_S = mean_known(difference_S1HW.detach().abs(), known_S1HW)
        return LossValue(total=total, count=self.count(batch), metrics={"depth_error": error_S.sum()})

    def _slopes(self, difference_S1HW: Tensor, known_S1HW: Tensor) -> Tensor:
        """Mean difference [S] between the slopes of the two maps, over neighbors of which both are known."""
        values, known = [], []
        for axis in (-2, -1):
            steps = difference_S1HW.diff(dim=axis).abs()
            size = steps.shape[axis]
            both = known_S1HW.narrow(axis, 0, size) & known_S1HW.narrow(axis, 1, size)
            values.append(steps.flatten(1))
            known.append(both.flatten(1))
        return mean_known(torch.cat(values, 1), torch.cat(known, 1))


def mean_known(values: Tensor, known: Tensor) -> Tensor:
    """Mean over the known elements of each row [S, ...] -> [S]; 0 where none is known."""
    known_SX = known.flatten(1)
    return (values.flatten(1) * known_SX).sum(1) / known_SX.sum(1).clamp(min=1)


@attrs.frozen(kw_only=True)
class DepthReconstructionConfig(LossConfig):
    """Reconstruction from softly merged codes.

    Attributes:
        beta: Difference in depth, in [0, 1], at which smooth L1 turns from quadratic to linear.
        slope_weight: Weight of the L1 between the slopes of the two maps.
    """

    name: ClassVar[str] = "depth_reconstruction"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)
    needs: ClassVar[tuple[str, ...]] = ("depth",)

    beta: float = 0.05
    slope_weight: float = 0.5

    def __attrs_post_init__(self) -> None:
        if self.beta < 0 or self.slope_weight < 0:
            raise RecipeError(
                f"depth_reconstruction: beta {self.beta} and slope_weight {self.slope_weight} must not be below 0."
            )

    def build(self, model: ModelSpecs) -> DepthReconstructionLoss:
        """See `LossConfig.build`."""
        depth_block_of(model, self.name)
        return DepthReconstructionLoss(self.beta, self.slope_weight)
