"""Resizing of images to a common size."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def stack_resized(
    images: Sequence[Tensor], size: tuple[int, int], mode: Literal["bilinear", "bicubic"] = "bilinear"
) -> Tensor:
    """Stretch images [3, H, W] of any sizes to one size, and stack them: [B, 3, *size].

    Resizing uses antialiasing; images of the right size are not changed.
    """
    return torch.stack([image if image.shape[-2:] == size else resize(image, size, mode) for image in images])


def resize(
    image_CHW: Tensor, size: tuple[int, int], mode: Literal["bilinear", "bicubic"] = "bilinear"
) -> Tensor:
    """Stretch one image [C, H, W] in [0, 1] to a size, with antialiasing."""
    resized = F.interpolate(image_CHW[None], size=size, mode=mode, antialias=True, align_corners=False)
    return resized[0].clamp(0.0, 1.0)


def cell_centers(rows: int, columns: int) -> Tensor:
    """Return the centers of a grid's cells as (row, column) in [0, 1], row by row: [rows * columns, 2] on the CPU."""
    return torch.cartesian_prod(
        (torch.arange(rows, device="cpu") + 0.5) / rows, (torch.arange(columns, device="cpu") + 0.5) / columns
    )
