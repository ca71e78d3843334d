"""Drawing marked points on an image, as HardBLINK shows them: a red circle with a letter in a dark box."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from perceptio.model.sequence import LETTERS

REFERENCE_SIZE = 336
"""Width in pixels of the pictures on which AURORA draws circles of radius 4 and labels 25 px above."""


def draw_marks(image_3HW: Tensor, points: Sequence[tuple[float, float]]) -> Tensor:
    """The image [3, H, W] in [0, 1] with lettered circles at points (x, y) in [0, 1]."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray((image_3HW.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    scale = max(picture.width / REFERENCE_SIZE, 0.25)
    radius, lift, size = max(4 * scale, 2), 25 * scale, max(14 * scale, 8)
    for letter, (x, y) in zip(LETTERS, points, strict=False):
        cx, cy = x * picture.width, y * picture.height
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), outline=(255, 0, 0))
        top = cy - lift if cy > lift else cy + radius
        box = draw.textbbox((cx, top), letter, font_size=size, anchor="mm")
        draw.rectangle(box, fill=(0, 0, 0))
        draw.text((cx, top), letter, font_size=size, anchor="mm", fill=(255, 255, 255))
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
