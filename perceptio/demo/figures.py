"""Images for an HTML page: inline PNG with marks drawn over them.

Shapes: H W pixels.
"""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from perceptio.interfaces import LETTERS

NEAR_M, FAR_M = 1.0, 16.0
"""Ends of the color scale of depth, in metres, for all maps of the report."""
TICKS_M = (1, 2, 4, 8, 16)
COLOR_MAP = "plasma_r"
ARM_COLORS = {
    "perceptio": "#3b7ddd",
    "readout_without_block": "#a05bd0",
    "lookup_from_vision": "#e08a1e",
    "direct": "#8a8f98",
}
STYLE = """
svg.scene { width: 100%; display: block; border-radius: 5px; }
svg.scene image { image-rendering: pixelated; }
svg.scale { width: 290px; max-width: 100%; display: block; color: var(--soft); }
svg.scale text { font-size: 10px; fill: currentColor; text-anchor: middle; }
svg.scale text.unit { text-anchor: start; }
.ring { fill: none; stroke: #fff; stroke-width: .9; filter: drop-shadow(0 0 .5px #000); }
.letter { fill: #fff; stroke: #000; stroke-width: 1.4; paint-order: stroke; font-weight: 700; text-anchor: middle;
  font-family: system-ui, sans-serif; }
.predicted { fill: none; stroke: #fff; stroke-width: 1.1; }
.true { fill: none; stroke: #111; stroke-width: 1.1; stroke-dasharray: .5 .5; }
"""
"""CSS rules for these drawings."""


def depth_colors(depth_HW: np.ndarray) -> np.ndarray:
    """Return metres as uint8 colors [H, W, 3], on a logarithmic scale: near is bright, far is dark."""
    from matplotlib import colormaps

    scaled = np.log(np.clip(depth_HW, NEAR_M, FAR_M) / NEAR_M) / np.log(FAR_M / NEAR_M)
    return (colormaps[COLOR_MAP](scaled)[..., :3] * 255).round().astype(np.uint8)


def data_uri(pixels_HW3: np.ndarray) -> str:
    """Return a uint8 RGB image as a PNG data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def scene_svg(pixels_HW3: np.ndarray, label: str, *overlays: str) -> str:
    """Return an image with drawings over it, in units of its pixels."""
    height, width = pixels_HW3.shape[:2]
    return (
        f'<svg class="scene" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f'<image href="{data_uri(pixels_HW3)}" width="{width}" height="{height}"/>{"".join(overlays)}</svg>'
    )


def marks_svg(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> str:
    """Return marked points as lettered rings; `size` is the image's height and width."""
    height, width = size
    drawn = []
    for letter, (x, y) in zip(LETTERS, points, strict=False):
        cx, cy = x * width, y * height
        # The letter is above its ring, or below it at the upper edge, and never outside the image.
        ty = cy - 0.045 * height if cy > 0.14 * height else cy + 0.115 * height
        tx = min(max(cx, 0.04 * width), 0.96 * width)
        drawn.append(
            f'<circle class="ring" cx="{cx:.1f}" cy="{cy:.1f}" r="{0.018 * width:.1f}"/>'
            f'<text class="letter" x="{tx:.1f}" y="{ty:.1f}" font-size="{0.085 * height:.1f}">{letter}</text>'
        )
    return "".join(drawn)


def outline_svg(mask_HW: np.ndarray, css_class: str) -> str:
    """Return the outline of a mask along the edges of its pixels."""
    padded = np.pad(mask_HW.astype(bool), 1)
    rows, columns = np.nonzero(padded[1:] != padded[:-1])
    across = "".join(f"M{x - 1} {y}h1" for y, x in zip(rows, columns, strict=True))
    rows, columns = np.nonzero(padded[:, 1:] != padded[:, :-1])
    down = "".join(f"M{x} {y - 1}v1" for y, x in zip(rows, columns, strict=True))
    return f'<path class="{css_class}" d="{across}{down}"/>'


def box_around(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom edge, in pixels, of a mask with at least one pixel."""
    rows, columns = np.nonzero(mask_HW)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def box_svg(box: Sequence[float], css_class: str) -> str:
    """Return the outline of a box (left, top, right, bottom) in pixels."""
    left, top, right, bottom = box
    return f'<path class="{css_class}" d="M{left:g} {top:g}H{right:g}V{bottom:g}H{left:g}Z"/>'


def depth_scale_svg() -> str:
    """Return the color scale of depth, with ticks in metres."""
    strip = depth_colors(np.geomspace(NEAR_M, FAR_M, 256)[None])
    ticks = "".join(
        f'<text x="{6 + 240 * np.log(m / NEAR_M) / np.log(FAR_M / NEAR_M):.1f}" y="24">{m}</text>'
        for m in TICKS_M
    )
    return (
        '<svg class="scale" viewBox="0 0 290 28" role="img" aria-label="color scale from 1 to 16 metres">'
        f'<image href="{data_uri(strip)}" x="6" y="0" width="240" height="12" preserveAspectRatio="none"/>'
        f'{ticks}<text class="unit" x="254" y="10">metres</text></svg>'
    )
