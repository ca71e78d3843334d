"""Bringing images of different sizes to one."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def stack_resized(images: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Images [3, H, W], each of its own size, stretched to one size and stacked: [B, 3, *size].

    Bilinear with antialiasing; images of the right size are not touched.
    """
    return torch.stack([image if image.shape[-2:] == size else resize(image, size) for image in images])


def resize(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    """One image [C, H, W] in [0, 1] stretched to a size, bilinear with antialiasing."""
    resized = F.interpolate(image_CHW[None], size=size, mode="bilinear", antialias=True, align_corners=False)
    return resized[0].clamp(0.0, 1.0)
