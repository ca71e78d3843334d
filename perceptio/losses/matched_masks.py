"""A loss for several masks of one image, each matched with at most one true mask.

This is CoVT's loss of its eight SAM tokens, as in its code (arXiv 2511.19418; after DETR, arXiv 2005.12872). Masks
are matched so that the sum of the Dice losses of all pairs is minimal. The loss is the Dice loss and the binary
cross-entropy of the pairs, plus 0.1 times the cross-entropy of the other predictions with empty masks.

Two details are ours. The Dice loss is smoothed with 1, as in the loss `dice`, instead of 1e-6. An image without any
true mask trains all predictions to be empty; CoVT leaves such images out.

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
    """Dice and cross-entropy averaged over the pairs of an image, plus the weighted rest, summed over images."""

    def __init__(self, stream: str, unmatched_weight: float) -> None:
        super().__init__(stream, "decoded")
        self.unmatched_weight = unmatched_weight

    def count(self, batch: Batch) -> int:
        """Return the number of blocks with known masks, including images known to have none."""
        return self.num_known(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`; the metric is the mean IoU of an image's pairs, or 1 if there are no true masks.

        Raises:
            InterfaceError: The compared values are not masks, or there are more true masks than predicted ones.
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
        """Return logits [N, n, X], the share of each cell under true masks [N, k, X], and which exist [N, k]."""
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
    """Return the `dice` loss [N, n, k] of every prediction with every target."""
    overlap_Nnk = probabilities_NnX @ targets_NkX.mT
    areas_Nnk = probabilities_NnX.sum(-1)[:, :, None] + targets_NkX.sum(-1)[:, None]
    return 1 - (2 * overlap_Nnk + 1) / (areas_Nnk + 1)


@attrs.frozen(kw_only=True)
class MatchedMasksConfig(StreamLossConfig):
    """Dice and cross-entropy of an unordered set of at most 12 masks, for a stream written once per image.

    The tokenizer decodes logits [N, n, h, w]. The targets are masks [N, k, H, W] with k <= n; missing masks of an
    image with fewer than k are NaN.

    Attributes:
        unmatched_weight: The weight of the cross-entropy of predictions without a partner, at least 0.

    Raises:
        RecipeError: `unmatched_weight` is below 0.
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
            RecipeError: There is no such stream, or it is written as codes or once per object.
        """
        asker = f"the loss {self.name}"
        if model.special_tokens(self.stream, asker).per == "object":
            raise RecipeError(
                f"{asker} is about all masks of an image, and the stream {self.stream!r} is written once per object; "
                "use mask_bce and dice for it."
            )
        return MatchedMasks(self.stream, self.unmatched_weight)
