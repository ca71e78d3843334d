"""The loss of the head that chooses among masks: its estimate against the IoU that each mask really has.

SAM 2's formula and weight (arXiv 2408.00714). Sa2VA lets the untrained head choose.

Shapes: N objects, M candidate masks, H W pixels of the target masks, h w cells of the predicted masks.
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import Batch, Kind, Loss, LossConfig, LossValue, ModelSpecs, PerceptionOutput
from perceptio.losses.masks import require_mask_logits


class MaskQuality(Loss):
    """Absolute error of the estimated IoU, averaged over the candidates of each object and summed over objects.

    No gradient reaches the masks: a better estimate must not be a better-known mask.
    """

    required_outputs = ("masks",)

    def count(self, batch: Batch) -> int:
        """The objects."""
        return batch.masks_NHW.shape[0]

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`; the metric is the IoU of the chosen mask."""
        masks = output.masks
        if masks is None or masks.quality_N is None:
            raise RecipeError(
                "mask_quality trains a segmentation tokenizer's estimate of its masks' IoU, and this model's gives "
                "none; leave the loss out."
            )
        candidates_NMhw, quality_NM = masks.candidates_NMhw, masks.candidate_quality_NM
        if candidates_NMhw is None or quality_NM is None:
            candidates_NMhw, quality_NM = masks.logits_Nhw[:, None], masks.quality_N[:, None]
        errors_NM = (quality_NM.float() - iou(candidates_NMhw, batch.masks_NHW)).abs()
        chosen_N = iou(masks.logits_Nhw[:, None], batch.masks_NHW)[:, 0]
        return LossValue(
            total=errors_NM.mean(1).sum(), count=self.count(batch), metrics={"mask_iou": chosen_N.sum()}
        )


@torch.no_grad()
def iou(logits_NMhw: Tensor, masks_NHW: Tensor) -> Tensor:
    """IoU [N, M] of masks with their targets, over mask cells; that of two empty masks is 1."""
    covered_N1hw = F.interpolate(masks_NHW[:, None].float(), size=logits_NMhw.shape[-2:], mode="area")
    predicted_NMhw, true_N1hw = logits_NMhw > 0, covered_N1hw > 0.5
    overlap_NM = (predicted_NMhw & true_N1hw).sum((-2, -1))
    union_NM = (predicted_NMhw | true_N1hw).sum((-2, -1))
    return torch.where(union_NM > 0, overlap_NM / union_NM.clamp(min=1), 1.0)


@attrs.frozen(kw_only=True)
class MaskQualityConfig(LossConfig):
    """Trains a tokenizer's estimate of its masks' IoU; SAM 2 weighs it 1.0."""

    name: ClassVar[str] = "mask_quality"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)
    needs: ClassVar[tuple[str, ...]] = ("segmentation",)

    def build(self, model: ModelSpecs) -> MaskQuality:
        """See `LossConfig.build`."""
        require_mask_logits(model, self.name)
        return MaskQuality()
