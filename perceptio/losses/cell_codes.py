"""An auxiliary loss: the depth code of every grid cell, read straight from the visual features.

Shapes: B images, M vision features of all images, L = rows * columns cells of the depth grid, K codebook size.
"""

from collections.abc import Mapping
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Batch,
    Kind,
    Loss,
    LossConfig,
    LossValue,
    ModelSpecs,
    PerceptionOutput,
    VisionFeatures,
)


class CellCodes(Loss):
    """Cross-entropy of each cell's code under the head's output at the nearest feature, summed over cells.

    Every cell of an image with depth counts once, however fine the features are. Where they are coarser than the
    grid, one feature answers for several cells and its best output is the mixture of their codes.
    """

    required_outputs = ("vision", "heads.cell_codes")
    grid_centers_L2: Tensor

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = ((torch.arange(size) + 0.5) / size for size in grid)
        self.register_buffer("grid_centers_L2", torch.cartesian_prod(rows, columns), persistent=False)

    def count(self, batch: Batch) -> int:
        """The cells of images with depth."""
        return int((batch.image_codes_BL >= 0).sum())

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        assert output.vision is not None
        logits_BLK = output.heads["cell_codes"].float()[self.nearest_features(output.vision)]
        codes_BL = batch.image_codes_BL
        hits = (logits_BLK.argmax(-1) == codes_BL).sum()
        total = F.cross_entropy(
            logits_BLK.flatten(0, 1), codes_BL.flatten(), ignore_index=-1, reduction="sum"
        )
        return LossValue(total=total, count=self.count(batch), metrics={"cell_accuracy": hits})

    def nearest_features(self, vision: VisionFeatures) -> Tensor:
        """Index into all features [B, L] of the one nearest to each cell's center; the first of equally near ones."""
        nearest, start = [], 0
        for centers_m2 in torch.split(vision.centers_M2, list(vision.counts)):
            nearest.append(start + torch.cdist(self.grid_centers_L2.to(centers_m2), centers_m2).argmin(1))
            start += len(centers_m2)
        return torch.stack(nearest)


@attrs.frozen(kw_only=True)
class CellCodesConfig(LossConfig):
    """The depth code of each cell from its visual feature, through the recipe's head named `cell_codes`."""

    name: ClassVar[str] = "cell_codes"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)
    needs: ClassVar[tuple[str, ...]] = ("depth",)
    retired: ClassVar[Mapping[str, str]] = {"grid": "it is the depth tokenizer's"}

    def build(self, model: ModelSpecs) -> CellCodes:
        """See `LossConfig.build`."""
        if model.depth is None:
            raise RecipeError(
                "The loss cell_codes needs a depth tokenizer, and there is none; add one or leave it out."
            )
        return CellCodes(model.depth.grid)
