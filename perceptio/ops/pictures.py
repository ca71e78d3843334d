"""Decoded streams as images for people.

Shapes: H W pixels, N objects.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from perceptio.interfaces import DepthMap

COLORS = ((230, 57, 70), (69, 123, 214), (42, 157, 143), (244, 162, 37), (155, 93, 229))
"""Colors of objects, in turn."""


def picture_of(decoded: Any) -> np.ndarray | None:
    """Return a map as an image [H, W, 3] of uint8; None if `decoded` is not a map.

    Near depth is bright. One channel becomes gray, from its lowest to its highest value. For three channels with
    negative values, such as unit vectors, -1 is black and 1 is full intensity.

    Args:
        decoded: The value in `Answer.decoded` of a stream that is written once per image.
    """
    if isinstance(decoded, DepthMap):
        return _depth(decoded)
    if not isinstance(decoded, np.ndarray) or decoded.ndim != 3:
        return None
    if decoded.shape[2] == 3:
        unit = ((decoded + 1) / 2 if np.nanmin(decoded) < 0 else decoded).clip(0, 1)
    elif decoded.shape[2] == 1:
        unit = np.broadcast_to(_stretched(decoded), (*decoded.shape[:2], 3))
    else:
        return None
    return (np.nan_to_num(unit) * 255).round().astype(np.uint8)


def overlaid(image_HW3: np.ndarray, objects: Sequence[Any]) -> np.ndarray:
    """Return an image of uint8 with each object in its own color: a mask as an overlay, a box as an outline.

    Args:
        image_HW3: The image.
        objects: Boolean masks [H, W], or boxes (left, top, right, bottom) in pixels; other values are skipped.
    """
    shown_HW3 = image_HW3.copy()
    for number, one in enumerate(objects):
        color_3 = np.array(COLORS[number % len(COLORS)])
        where_HW = _area(one, image_HW3.shape[:2])
        strength = 0.55 if isinstance(one, np.ndarray) and one.dtype == bool else 1.0
        mixed = (1 - strength) * shown_HW3[where_HW] + strength * color_3
        shown_HW3[where_HW] = mixed.round().astype(np.uint8)
    return shown_HW3


def _area(one: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels that show an object."""
    if isinstance(one, np.ndarray) and one.dtype == bool and one.shape == size:
        return one
    where_HW = np.zeros(size, dtype=bool)
    box = np.asarray(one if one is not None else (), dtype=float)
    if box.shape == (4,):
        left, top, right, bottom = (
            int(np.clip(round(value), 0, limit - 1))
            for value, limit in zip(box, (size[1], size[0]) * 2, strict=True)
        )
        where_HW[top : bottom + 1, [left, right]] = True
        where_HW[[top, bottom], left : right + 1] = True
    return where_HW


def _depth(depth: DepthMap) -> np.ndarray:
    from matplotlib import colormaps

    nearness_HW = depth.values_HW if depth.unit == "disparity" else -np.log(depth.values_HW)
    colored: np.ndarray = (colormaps["magma"](_stretched(nearness_HW))[..., :3] * 255).astype(np.uint8)
    return colored


def _stretched(values: np.ndarray) -> np.ndarray:
    """Return values scaled from their own minimum and maximum to 0 and 1."""
    low, high = np.nanmin(values), np.nanmax(values)
    stretched: np.ndarray = (values - low) / max(high - low, 1e-6)
    return stretched
