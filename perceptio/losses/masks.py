"""Mask losses: binary cross-entropy and Dice, on sampled points or on all mask cells.

Formulas and numbers are those of Sa2VA (arXiv 2501.04001), which samples the same points for both losses. Here each
loss draws its own points.

Shapes: N objects, h w cells of the predicted masks, H W pixels of the target masks, P compared points per object.
"""

from typing import ClassVar

import attrs
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Batch,
    Kind,
    LossValue,
    MaskPrediction,
    ModelSpecs,
    PerceptionOutput,
    SegmentationSpec,
    StreamLoss,
    StreamLossConfig,
)
from perceptio.interfaces.maps import covered_cells, iou
from perceptio.ops.point_sample import sample_points, uncertain_points


@attrs.frozen(kw_only=True)
class PointSampling:
    """The points at which predicted and target masks are compared.

    Attributes:
        num_points: The number of points per mask. If it is None, or at least the number of cells of a mask, all cells
            are compared with the share of the cell that the object covers.
        oversample: See `uncertain_points`; at least 1.
        uncertain_share: See `uncertain_points`; in [0, 1].

    Raises:
        RecipeError: A value is out of range.
    """

    num_points: int | None = 12_544
    oversample: float = 3.0
    uncertain_share: float = 0.75

    def __attrs_post_init__(self) -> None:
        if self.num_points is not None and self.num_points < 1:
            raise RecipeError(f"num_points is {self.num_points}; give at least 1, or None for every cell.")
        if self.oversample < 1 or not 0 <= self.uncertain_share <= 1:
            raise RecipeError(
                f"oversample is {self.oversample} and must be at least 1; uncertain_share is {self.uncertain_share} "
                "and must be in [0, 1]."
            )

    def compare(self, logits_Nhw: Tensor, masks_NHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and targets at the same points, both float32 [N, P]."""
        logits_Nhw, masks_NHW = logits_Nhw.float(), masks_NHW.float()
        if self.num_points is None or self.num_points >= logits_Nhw[0].numel():
            covered_N1hw = F.interpolate(masks_NHW[:, None], size=logits_Nhw.shape[-2:], mode="area")
            return logits_Nhw.flatten(1), covered_N1hw.flatten(1)
        points_NP2 = uncertain_points(
            logits_Nhw, self.num_points, oversample=self.oversample, uncertain_share=self.uncertain_share
        )
        return sample_points(logits_Nhw, points_NP2), sample_points(masks_NHW, points_NP2)


class MaskLoss(StreamLoss):
    """Base class of the two losses: each is a mean over objects of one term per object."""

    def __init__(self, stream: str, sampling: PointSampling) -> None:
        super().__init__(stream, "decoded")
        self.sampling = sampling

    def count(self, batch: Batch) -> int:
        """Return the number of objects."""
        return self.num_written(batch)

    def _compare(self, output: PerceptionOutput, batch: Batch) -> tuple[Tensor, Tensor]:
        masks: MaskPrediction = self.computed(output)
        return self.sampling.compare(masks.logits_Nhw, self.targets(batch))


class MaskBCE(MaskLoss):
    """Binary cross-entropy, averaged over the points of each mask and summed over masks."""

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        logits_NP, targets_NP = self._compare(output, batch)
        values_NP = F.binary_cross_entropy_with_logits(logits_NP, targets_NP, reduction="none")
        return LossValue(total=values_NP.mean(1).sum(), count=self.count(batch))


class Dice(MaskLoss):
    """Dice loss over the points of each mask, summed over masks."""

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`; the metric is the IoU at the compared points."""
        logits_NP, targets_NP = self._compare(output, batch)
        return LossValue(
            total=dice(logits_NP.sigmoid(), targets_NP).sum(),
            count=self.count(batch),
            metrics={"mask_iou": iou(logits_NP > 0, covered_cells(targets_NP)).sum()},
        )


def dice(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the Dice loss [...] of areas [..., P]: 1 - (2 * overlap + 1) / (predicted + target + 1)."""
    overlap = (probabilities * targets).sum(-1)
    areas = probabilities.sum(-1) + targets.sum(-1)
    return 1 - (2 * overlap + 1) / (areas + 1)


@attrs.frozen(kw_only=True)
class MaskLossConfig(StreamLossConfig):
    """Base class of the configs of losses of objects' masks."""

    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def require_mask_logits(self, model: ModelSpecs) -> None:
        """Check that the stream has mask logits to compare.

        Raises:
            RecipeError: There is no such stream, it is written as codes, or it has no segmentation tokenizer.
        """
        asker = f"the loss {self.name}"
        stream = model.stream(self.stream, asker)
        if not isinstance(stream.tokenizer, SegmentationSpec):
            raise RecipeError(
                f"{asker} compares mask logits, and the stream {self.stream!r} has no segmentation tokenizer; leave "
                "it out."
            )
        if stream.tokenizer.codes is not None:
            raise RecipeError(
                f"{asker} compares mask logits, and the stream {self.stream!r} is written as mask codes, which "
                "marker and token train; leave it out."
            )


@attrs.frozen(kw_only=True)
class MaskBCEConfig(MaskLossConfig):
    """Binary cross-entropy of masks; Sa2VA uses the weight 2.0.

    Attributes:
        sampling: The points at which masks are compared.
    """

    name: ClassVar[str] = "mask_bce"

    sampling: PointSampling = PointSampling()

    def build(self, model: ModelSpecs) -> MaskBCE:
        """See `LossConfig.build`."""
        self.require_mask_logits(model)
        return MaskBCE(self.stream, self.sampling)


@attrs.frozen(kw_only=True)
class DiceConfig(MaskLossConfig):
    """Dice loss of masks; Sa2VA uses the weight 0.5.

    Attributes:
        sampling: The points at which masks are compared.
    """

    name: ClassVar[str] = "dice"

    sampling: PointSampling = PointSampling()

    def build(self, model: ModelSpecs) -> Dice:
        """See `LossConfig.build`."""
        self.require_mask_logits(model)
        return Dice(self.stream, self.sampling)
