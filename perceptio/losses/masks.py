"""Mask losses: binary cross-entropy and Dice, on sampled points or on every pixel.

Sa2VA's formulas and numbers (arXiv 2501.04001); it samples the same points for both, here each draws its own.

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
    """Where predicted and target masks are compared.

    Attributes:
        num_points: Points per mask; None, or as many as a mask has cells: every cell, against the share of it that
            the object covers.
        oversample: See `uncertain_points`.
        uncertain_share: See `uncertain_points`.
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
        """Logits and targets at the same places, both [N, P] in float32."""
        logits_Nhw, masks_NHW = logits_Nhw.float(), masks_NHW.float()
        if self.num_points is None or self.num_points >= logits_Nhw[0].numel():
            covered_N1hw = F.interpolate(masks_NHW[:, None], size=logits_Nhw.shape[-2:], mode="area")
            return logits_Nhw.flatten(1), covered_N1hw.flatten(1)
        points_NP2 = uncertain_points(
            logits_Nhw, self.num_points, oversample=self.oversample, uncertain_share=self.uncertain_share
        )
        return sample_points(logits_Nhw, points_NP2), sample_points(masks_NHW, points_NP2)


class MaskLoss(StreamLoss):
    """What the two share: each is a mean over objects of a term per object."""

    def __init__(self, stream: str, sampling: PointSampling) -> None:
        super().__init__(stream, "decoded")
        self.sampling = sampling

    def count(self, batch: Batch) -> int:
        """The objects."""
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
    """`dice` of the points of each mask, summed over masks."""

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`; the metric is the IoU at the compared points."""
        logits_NP, targets_NP = self._compare(output, batch)
        return LossValue(
            total=dice(logits_NP.sigmoid(), targets_NP).sum(),
            count=self.count(batch),
            metrics={"mask_iou": iou(logits_NP > 0, covered_cells(targets_NP)).sum()},
        )


def dice(probabilities: Tensor, targets: Tensor) -> Tensor:
    """1 - (2 * overlap + 1) / (predicted + target + 1), of areas [..., P] -> [...]."""
    overlap = (probabilities * targets).sum(-1)
    areas = probabilities.sum(-1) + targets.sum(-1)
    return 1 - (2 * overlap + 1) / (areas + 1)


@attrs.frozen(kw_only=True)
class MaskLossConfig(StreamLossConfig):
    """What configs of losses of objects' masks share."""

    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def require_mask_logits(self, model: ModelSpecs) -> None:
        """Refuse a stream that has no mask logits to compare.

        Raises:
            RecipeError: There is no such stream, or it is written as codes, or has no segmentation tokenizer.
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
    """Binary cross-entropy of masks; Sa2VA weighs it 2.0.

    Attributes:
        sampling: Where masks are compared.
    """

    name: ClassVar[str] = "mask_bce"

    sampling: PointSampling = PointSampling()

    def build(self, model: ModelSpecs) -> MaskBCE:
        """See `LossConfig.build`."""
        self.require_mask_logits(model)
        return MaskBCE(self.stream, self.sampling)


@attrs.frozen(kw_only=True)
class DiceConfig(MaskLossConfig):
    """Dice loss of masks; Sa2VA weighs it 0.5.

    Attributes:
        sampling: Where masks are compared.
    """

    name: ClassVar[str] = "dice"

    sampling: PointSampling = PointSampling()

    def build(self, model: ModelSpecs) -> Dice:
        """See `LossConfig.build`."""
        self.require_mask_logits(model)
        return Dice(self.stream, self.sampling)
