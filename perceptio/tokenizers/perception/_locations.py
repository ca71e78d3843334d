"""Boxes as four location codes.

A box is (y_min, x_min, y_max, x_max) in [0, 1] of its picture's height and width: the edges of its pixels. The order
and the codes are PaliGemma's (arXiv 2407.07726), as its code has them: `round(coordinate * (bins - 1))`, which
stands for `code / (bins - 1)`, with 1024 bins.

Shapes: N boxes, K bins, H W pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from perceptio.errors import DataError

COORDINATES = 4


class Locations(nn.Module):
    """Coordinates in [0, 1] <-> codes of evenly spaced bins, in float32 whatever the precision of a model."""

    levels_K: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.last = bins - 1
        # Whole numbers, which are not rounded where a model is brought to half precision.
        self.register_buffer("levels_K", torch.arange(bins), persistent=False)

    @property
    def values_K(self) -> Tensor:
        """What each code stands for."""
        return self.levels_K.float() / self.last

    def to_codes(self, boxes_N4: Tensor) -> Tensor:
        """The nearest codes [N, 4], int64."""
        return (boxes_N4 * self.last).round().long().clamp(0, self.last)

    def to_boxes(self, codes_N4: Tensor) -> Tensor:
        """The boxes [N, 4] that codes stand for."""
        return codes_N4.float() / self.last

    def expected_boxes(self, probabilities_N4K: Tensor) -> Tensor:
        """The mean boxes [N, 4] of distributions over codes."""
        return probabilities_N4K.float() @ self.values_K


PixelBox = tuple[int, int, int, int]
"""The first row and column of a mask, and those after its last ones."""


def pixel_box(mask_HW: np.ndarray) -> PixelBox:
    """Where a mask lies on its picture.

    Raises:
        DataError: The mask has no pixel.
    """
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    if not len(rows):
        height, width = mask_HW.shape
        raise DataError(
            f"A mask of {height}x{width} pixels has none that belongs to its object: leave it out."
        )
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def boxes_of(masks: Sequence[np.ndarray], pixels: Sequence[PixelBox]) -> Tensor:
    """The boxes [N, 4] of masks that lie there, on the CPU."""
    sizes_N4 = torch.tensor([mask_HW.shape * 2 for mask_HW in masks]).reshape(-1, COORDINATES)
    return torch.tensor(pixels).reshape(-1, COORDINATES) / sizes_N4


def box_iou(one_N4: Tensor, other_N4: Tensor) -> Tensor:
    """Intersection over union [N] of boxes and as many others; a box whose edges are in the wrong order is empty."""

    def area(boxes_N4: Tensor) -> Tensor:
        return (boxes_N4[:, 2:] - boxes_N4[:, :2]).clamp_min(0).prod(1)

    first_N2 = torch.maximum(one_N4[:, :2], other_N4[:, :2])
    last_N2 = torch.minimum(one_N4[:, 2:], other_N4[:, 2:])
    overlap_N = area(torch.cat([first_N2, last_N2], 1))
    union_N = area(one_N4) + area(other_N4) - overlap_N
    return torch.where(union_N > 0, overlap_N / union_N, 0.0)
