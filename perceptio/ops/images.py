"""Bringing images of different sizes to one."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def stack_resized(
    images: Sequence[Tensor], size: tuple[int, int], mode: Literal["bilinear", "bicubic"] = "bilinear"
) -> Tensor:
    """Images [3, H, W], each of its own size, stretched to one size and stacked: [B, 3, *size].

    With antialiasing; images of the right size are not touched.
    """
    return torch.stack([image if image.shape[-2:] == size else resize(image, size, mode) for image in images])


def resize(
    image_CHW: Tensor, size: tuple[int, int], mode: Literal["bilinear", "bicubic"] = "bilinear"
) -> Tensor:
    """One image [C, H, W] in [0, 1] stretched to a size, with antialiasing."""
    resized = F.interpolate(image_CHW[None], size=size, mode=mode, antialias=True, align_corners=False)
    return resized[0].clamp(0.0, 1.0)


def cell_centers(rows: int, columns: int) -> Tensor:
    """Where the cells of a grid lie, as (row, column) in [0, 1], row by row: [rows * columns, 2] on the CPU."""
    return torch.cartesian_prod(
        (torch.arange(rows, device="cpu") + 0.5) / rows, (torch.arange(columns, device="cpu") + 0.5) / columns
    )
