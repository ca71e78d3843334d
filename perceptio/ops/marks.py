"""Marked points drawn on an image as in HardBLINK: a red circle with a letter in a dark box.

This is the one place that decides which image a question or conversation shows, in training, asking and evaluation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from perceptio.errors import DataError
from perceptio.interfaces.records import Turn
from perceptio.ops.letters import letters_for

REFERENCE_SIZE = 336
"""Width in pixels of the images on which AURORA draws circles of radius 4 and labels 25 px above."""


def shown_image(image_3HW: Tensor, turns: Sequence[Turn], *, drawn: bool) -> Tensor:
    """Return the image [3, H, W] that a conversation shows: with marks if points are drawn, otherwise unchanged.

    Args:
        image_3HW: RGB in [0, 1].
        turns: The conversation.
        drawn: Whether the recipe draws marked points on images.

    Raises:
        DataError: Points are drawn and two turns have some: both would be lettered from A on the same image.
    """
    marked = [turn for turn in turns if turn.points]
    if not drawn or not marked:
        return image_3HW
    if len(marked) > 1:
        raise DataError(
            f"{len(marked)} questions of one conversation mark points, and the recipe draws them on the image, where "
            "their letters would be mixed: ask one such question in a conversation."
        )
    return draw_marks(image_3HW, marked[0].points)


def shown_images(
    images: Sequence[Tensor], image_index: Sequence[int], turns: Sequence[Turn], *, drawn: bool
) -> tuple[list[Tensor], list[int]]:
    """Return the distinct images that questions show, and the index of the image of each question.

    Questions about one image share it, except those with marks drawn on it.
    """
    shown: list[Tensor] = []
    index: list[int] = []
    unmarked: dict[int, int] = {}
    for number, turn in zip(image_index, turns, strict=True):
        image = shown_image(images[number], [turn], drawn=drawn)
        if image is images[number] and number in unmarked:
            index.append(unmarked[number])
            continue
        if image is images[number]:
            unmarked[number] = len(shown)
        index.append(len(shown))
        shown.append(image)
    return shown, index


def draw_marks(image_3HW: Tensor, points: Sequence[tuple[float, float]]) -> Tensor:
    """Return the image [3, H, W] in [0, 1] with lettered circles at points (x, y) in [0, 1].

    Raises:
        InputError: There are more points than letters.
    """
    from PIL import Image, ImageDraw

    letters = letters_for(len(points))
    picture = Image.fromarray((image_3HW.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    scale = max(picture.width / REFERENCE_SIZE, 0.25)
    radius, lift, size = max(4 * scale, 2), 25 * scale, max(14 * scale, 8)
    for letter, (x, y) in zip(letters, points, strict=True):
        cx, cy = x * picture.width, y * picture.height
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), outline=(255, 0, 0))
        top = cy - lift if cy > lift else cy + radius
        box = draw.textbbox((cx, top), letter, font_size=size, anchor="mm")
        draw.rectangle(box, fill=(0, 0, 0))
        draw.text((cx, top), letter, font_size=size, anchor="mm", fill=(255, 255, 255))
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
