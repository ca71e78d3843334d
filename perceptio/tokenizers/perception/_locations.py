"""Boxes as four location codes.

A box is (y_min, x_min, y_max, x_max), the outer edges of its pixels in [0, 1] of the height and width of its image.
Order and codes are those of PaliGemma's code (arXiv 2407.07726): a coordinate is encoded as
`round(coordinate * (bins - 1))` and decoded as `code / (bins - 1)`, with 1024 bins.

Shapes: N boxes, K bins, H W pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from perceptio.errors import DataError

COORDINATES = 4


class Locations(nn.Module):
    """Coordinates in [0, 1] <-> codes of evenly spaced bins, always in float32."""

    levels_K: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.last = bins - 1
        # Integers, because conversion of the model to half precision does not round them.
        self.register_buffer("levels_K", torch.arange(bins), persistent=False)

    @property
    def values_K(self) -> Tensor:
        """The coordinate of each code [K]."""
        return self.levels_K.float() / self.last

    def to_codes(self, boxes_N4: Tensor) -> Tensor:
        """Return the nearest codes [N, 4], int64."""
        return (boxes_N4 * self.last).round().long().clamp(0, self.last)

    def to_boxes(self, codes_N4: Tensor) -> Tensor:
        """Decode codes to boxes [N, 4]."""
        return codes_N4.float() / self.last

    def expected_boxes(self, probabilities_N4K: Tensor) -> Tensor:
        """Return the expected boxes [N, 4] of distributions over codes."""
        return probabilities_N4K.float() @ self.values_K


PixelBox = tuple[int, int, int, int]
"""The first row and column of a mask, and one past its last row and column."""


def pixel_box(mask_HW: np.ndarray) -> PixelBox:
    """Return the bounding box of a mask in pixels.

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
    """Convert the pixel boxes of masks to boxes [N, 4] in [0, 1], on the CPU."""
    sizes_N4 = torch.tensor([mask_HW.shape * 2 for mask_HW in masks]).reshape(-1, COORDINATES)
    return torch.tensor(pixels).reshape(-1, COORDINATES) / sizes_N4


def box_iou(one_N4: Tensor, other_N4: Tensor) -> Tensor:
    """Return the IoU [N] of pairs of boxes; a box whose edges are in the wrong order is empty."""

    def area(boxes_N4: Tensor) -> Tensor:
        return (boxes_N4[:, 2:] - boxes_N4[:, :2]).clamp_min(0).prod(1)

    first_N2 = torch.maximum(one_N4[:, :2], other_N4[:, :2])
    last_N2 = torch.minimum(one_N4[:, 2:], other_N4[:, 2:])
    overlap_N = area(torch.cat([first_N2, last_N2], 1))
    union_N = area(one_N4) + area(other_N4) - overlap_N
    return torch.where(union_N > 0, overlap_N / union_N, 0.0)
