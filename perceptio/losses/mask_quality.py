"""The loss of a tokenizer's estimates of its masks' IoU, by which it chooses among candidate masks.

Formula and weight are those of SAM 2 (arXiv 2408.00714). Sa2VA does not train these estimates, but chooses by them.

Shapes: N objects, M candidate masks, H W pixels of the target masks, h w cells of the predicted masks.
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Batch,
    LossValue,
    MaskPrediction,
    ModelSpecs,
    PerceptionOutput,
    StreamLoss,
)
from perceptio.interfaces.maps import covered_cells, iou
from perceptio.losses.masks import MaskLossConfig


class MaskQuality(StreamLoss):
    """Absolute error of the estimated IoU, averaged over the candidates of each object and summed over objects.

    No gradient reaches the masks, so that masks do not change to make their IoU easier to estimate.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream, "decoded")

    def count(self, batch: Batch) -> int:
        """Return the number of objects."""
        return self.num_written(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`; the metric is the IoU of the chosen mask.

        Raises:
            RecipeError: The tokenizer returns no estimates.
        """
        masks: MaskPrediction = self.computed(output)
        if masks.quality_N is None:
            raise RecipeError(
                "mask_quality trains a segmentation tokenizer's estimate of its masks' IoU, and that of the stream "
                f"{self.stream!r} gives none; leave the loss out."
            )
        targets_NHW = self.targets(batch)
        candidates_NMhw, quality_NM = masks.candidates_NMhw, masks.candidate_quality_NM
        if candidates_NMhw is None or quality_NM is None:
            candidates_NMhw, quality_NM = masks.logits_Nhw[:, None], masks.quality_N[:, None]
        errors_NM = (quality_NM.float() - iou_of(candidates_NMhw, targets_NHW)).abs()
        chosen_N = iou_of(masks.logits_Nhw[:, None], targets_NHW)[:, 0]
        return LossValue(
            total=errors_NM.mean(1).sum(), count=self.count(batch), metrics={"mask_iou": chosen_N.sum()}
        )


@torch.no_grad()
def iou_of(logits_NMhw: Tensor, masks_NHW: Tensor) -> Tensor:
    """Return the IoU [N, M] of masks with their targets, computed over mask cells."""
    covered_N1hw = F.interpolate(masks_NHW[:, None].float(), size=logits_NMhw.shape[-2:], mode="area")
    return iou((logits_NMhw > 0).flatten(2), covered_cells(covered_N1hw.flatten(2)))


@attrs.frozen(kw_only=True)
class MaskQualityConfig(MaskLossConfig):
    """Absolute error of a tokenizer's estimates of its masks' IoU; SAM 2 uses the weight 1.0."""

    name: ClassVar[str] = "mask_quality"

    def build(self, model: ModelSpecs) -> MaskQuality:
        """See `LossConfig.build`."""
        self.require_mask_logits(model)
        return MaskQuality(self.stream)
