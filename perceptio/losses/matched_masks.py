"""Several masks of one image, each matched with at most one true mask.

CoVT's loss of its eight SAM tokens (arXiv 2511.19418; after DETR, arXiv 2005.12872), as in its code: the pairs whose
Dice losses sum to the least, their Dice and binary cross-entropy, and 0.1 of the cross-entropy of the rest with empty
masks. Two things are ours: Dice has the 1 of the loss `dice` and not 1e-6; and an image without any true mask teaches
that all are empty, where theirs is left out.

Shapes: N blocks, one of an image; n predicted masks, k true masks, h w cells of the predicted masks and X = h * w,
H W pixels of the true masks.
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import InterfaceError, RecipeError
from perceptio.interfaces import (
    Batch,
    Kind,
    LossValue,
    ModelSpecs,
    PerceptionOutput,
    StreamLoss,
    StreamLossConfig,
)
from perceptio.interfaces.component import described
from perceptio.interfaces.maps import covered_cells, iou
from perceptio.losses.masks import dice
from perceptio.losses.soft_reconstruction import mean_known
from perceptio.ops.assignment import MOST, assigned


class MatchedMasks(StreamLoss):
    """Dice and cross-entropy, averaged over the pairs of an image, plus that of the rest, summed over images."""

    def __init__(self, stream: str, unmatched_weight: float) -> None:
        super().__init__(stream, "decoded")
        self.unmatched_weight = unmatched_weight

    def count(self, batch: Batch) -> int:
        """The blocks of images whose masks are known, be they none."""
        return self.num_known(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`; the metric is the mean IoU of an image's pairs, 1 where there is none to find.

        Raises:
            InterfaceError: What is compared are no masks, or there are more true masks than predicted ones.
        """
        logits_NnX, covered_NkX, true_Nk = self._masks(output, batch)
        with torch.no_grad():
            match_Nn = assigned(dice_of_pairs(logits_NnX.sigmoid(), covered_NkX), true_Nk)
            matched_Nn = match_Nn >= 0
            chosen_Nn1 = match_Nn.clamp(min=0)[..., None]
            target_NnX = covered_NkX.gather(1, chosen_Nn1.expand(-1, -1, covered_NkX.shape[-1]))
            target_NnX = target_NnX * matched_Nn[..., None]

        entropy_Nn = F.binary_cross_entropy_with_logits(logits_NnX, target_NnX, reduction="none").mean(-1)
        pairs_N = mean_known(entropy_Nn + dice(logits_NnX.sigmoid(), target_NnX), matched_Nn)
        rest_N = mean_known(entropy_Nn, ~matched_Nn)
        iou_N = mean_known(iou(logits_NnX > 0, covered_cells(target_NnX)), matched_Nn)
        iou_N = torch.where(matched_Nn.any(1), iou_N, 1.0)

        known_N = torch.tensor(batch.streams[self.stream].known, device=iou_N.device)
        return LossValue(
            total=torch.where(known_N, pairs_N + self.unmatched_weight * rest_N, 0.0).sum(),
            count=self.count(batch),
            metrics={"mask_iou": torch.where(known_N, iou_N, 0.0).sum()},
        )

    def _masks(self, output: PerceptionOutput, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, n, X], the share of each cell that true masks cover [N, k, X], and which there are [N, k]."""
        logits_Nnhw, masks_NkHW = self.computed(output), self.targets(batch)
        if any(getattr(masks, "ndim", None) != 4 for masks in (logits_Nnhw, masks_NkHW)):
            raise InterfaceError(
                f"matched_masks compares logits [N, n, h, w] with masks [N, k, H, W], and the stream {self.stream!r} "
                f"has {described(logits_Nnhw)} and {described(masks_NkHW)}; use another loss for it."
            )
        predicted, true = logits_Nnhw.shape[1], masks_NkHW.shape[1]
        if not 1 <= true <= predicted <= MOST:
            raise InterfaceError(
                f"matched_masks matches up to {MOST} masks with at most as many true ones, and the stream "
                f"{self.stream!r} has {predicted} and {true}; let its tokenizer keep fewer."
            )
        masks_NkHW = masks_NkHW.float()
        true_Nk = ~masks_NkHW.isnan().flatten(2).any(2)
        covered_Nkhw = F.interpolate(masks_NkHW.nan_to_num(0.0), size=logits_Nnhw.shape[-2:], mode="area")
        return logits_Nnhw.float().flatten(2), covered_Nkhw.flatten(2), true_Nk


def dice_of_pairs(probabilities_NnX: Tensor, targets_NkX: Tensor) -> Tensor:
    """`dice` of every prediction with every target, [N, n, k]."""
    overlap_Nnk = probabilities_NnX @ targets_NkX.mT
    areas_Nnk = probabilities_NnX.sum(-1)[:, :, None] + targets_NkX.sum(-1)[:, None]
    return 1 - (2 * overlap_Nnk + 1) / (areas_Nnk + 1)


@attrs.frozen(kw_only=True)
class MatchedMasksConfig(StreamLossConfig):
    """Masks of a stream that is written once per image, whose order says nothing; there are at most 12.

    What is decoded is logits [N, n, h, w], and the targets are masks [N, k, H, W] with k <= n, NaN where an image has
    fewer than k.

    Attributes:
        unmatched_weight: Of the cross-entropy of masks without a partner.
    """

    name: ClassVar[str] = "matched_masks"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    unmatched_weight: float = 0.1

    def __attrs_post_init__(self) -> None:
        if self.unmatched_weight < 0:
            raise RecipeError(
                f"{self.term}: unmatched_weight is {self.unmatched_weight}; it must not be below 0."
            )

    def build(self, model: ModelSpecs) -> MatchedMasks:
        """See `LossConfig.build`.

        Raises:
            RecipeError: There is no such stream, or it is written as codes, or once per object.
        """
        asker = f"the loss {self.name}"
        if model.special_tokens(self.stream, asker).per == "object":
            raise RecipeError(
                f"{asker} is about all masks of an image, and the stream {self.stream!r} is written once per object; "
                "use mask_bce and dice for it."
            )
        return MatchedMasks(self.stream, self.unmatched_weight)
