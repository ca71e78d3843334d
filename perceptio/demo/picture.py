"""`picture.png`: what the model perceives in the first test scenes, and what it answers, in one wide image."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from perceptio.demo import figures
from perceptio.demo.gallery import GalleryItem, Reply, pick_turns
from perceptio.demo.results import NAMES, Demo, depth_at
from perceptio.interfaces import LETTERS
from perceptio.ops.files import new_file

PICTURE = "picture.png"
ROWS = 2
INK, SOFT, GOOD, BAD = "#1d2129", "#6a717c", "#1f8a4c", "#c8382d"


def draw_picture(demo: Demo, path: Path) -> None:
    """Draw the first test scenes, without selection.

    Args:
        demo: A complete demo.
        path: The PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = demo.galleries["perceptio"][:ROWS]
    with plt.rc_context({"font.size": 10, "text.color": INK}):
        figure, axes = plt.subplots(
            len(shown),
            6,
            figsize=(13.6, 2.45 * len(shown) + 0.75),
            squeeze=False,
            gridspec_kw={"wspace": 0.07, "hspace": 0.23, "left": 0, "right": 1, "top": 0.93, "bottom": 0.13},
        )
        for number, (row, one) in enumerate(zip(axes, shown, strict=True)):
            for axis in row:
                axis.set_axis_off()
            _draw_row(row, demo, number, one)
        titles = (
            "scene",
            "true depth",
            "depth, written as tokens",
            "mask of an expression",
            "marked points",
            "",
        )
        for axis, title in zip(axes[0], titles, strict=True):
            if title:
                axis.set_title(title, fontsize=11, loc="left", pad=7)
        _draw_scale(figure, axes[-1][1], axes[-1][2])
        with new_file(path) as new:
            figure.savefig(new, dpi=110, facecolor="white", bbox_inches="tight", pad_inches=0.15)
        plt.close(figure)


def _draw_row(row: Any, demo: Demo, number: int, shown: GalleryItem) -> None:
    pixels, true_HW = demo.pixels(number), demo.true_depth(number)
    scene, truth, written, mask, marks, words = row
    scene.imshow(pixels)
    truth.imshow(figures.depth_colors(true_HW))
    if shown.depth_HW is not None:
        written.imshow(figures.depth_colors(shown.depth_HW))
    _draw_mask(mask, demo, number, shown, pixels)
    marks.imshow(pixels)
    if shown.marked is not None:
        _draw_marks(marks, shown.marked, pixels.shape[:2])
        _write_answers(words, demo, number, shown.marked, true_HW)


def _draw_mask(axis: Any, demo: Demo, number: int, shown: GalleryItem, pixels: np.ndarray) -> None:
    _, turn = pick_turns(demo.samples[number], shown.sample)
    if turn is None:
        axis.imshow(pixels)
        return
    mask_HW = np.zeros(pixels.shape[:2], dtype=bool) if shown.mask_HW is None else shown.mask_HW
    dimmed = np.where(mask_HW[..., None], pixels, (0.35 * pixels + 0.65 * 255).astype(np.uint8))
    axis.imshow(dimmed)
    if mask_HW.any():
        axis.contour(mask_HW, levels=[0.5], colors=[INK], linewidths=1.2)
    words = textwrap.fill(turn.question, 40)
    axis.text(0, -0.025, words, transform=axis.transAxes, fontsize=8, va="top", color=SOFT, linespacing=1.25)


def _draw_marks(axis: Any, reply: Reply, size: tuple[int, int]) -> None:
    from matplotlib import patheffects

    height, width = size
    edge = [patheffects.withStroke(linewidth=2.5, foreground="black")]
    for letter, (x, y) in zip(LETTERS, reply.points, strict=False):
        cx, cy = x * width - 0.5, y * height - 0.5
        axis.plot(
            cx, cy, "o", markersize=6, markerfacecolor="none", markeredgecolor="white", path_effects=edge
        )
        above = cy > 0.14 * height
        axis.annotate(
            letter,
            (cx, cy),
            xytext=(0, 6 if above else -6),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            color="white",
            fontsize=11,
            fontweight="bold",
            path_effects=edge,
        )
    axis.set_xlim(-0.5, width - 0.5)
    axis.set_ylim(height - 0.5, -0.5)


def _write_answers(axis: Any, demo: Demo, number: int, reply: Reply, true_HW: np.ndarray) -> None:
    """Write the values that were looked up for each point beside the ground truth, then every arm's answer."""
    axis.set_xlim(0, 1)
    axis.set_ylim(1, 0)
    axis.text(0.02, 0.04, "which is closest?", fontsize=10.5)
    axis.text(0.62, 0.13, "on the map", fontsize=8, color=SOFT, ha="right")
    axis.text(0.92, 0.13, "truly", fontsize=8, color=SOFT, ha="right")
    read = reply.readout_m or (None,) * len(reply.points)
    line = 0.22
    for letter, point, metres in zip(LETTERS, reply.points, read, strict=False):
        weight = "bold" if letter == reply.expected else "normal"
        axis.text(0.02, line, letter, fontsize=9.5, fontweight=weight)
        axis.text(0.62, line, "–" if metres is None else f"{metres:.1f} m", fontsize=9.5, ha="right")
        axis.text(
            0.92, line, f"{depth_at(true_HW, point):.1f} m", fontsize=9.5, ha="right", fontweight=weight
        )
        line += 0.085
    line = max(line + 0.06, 0.68)
    for arm in demo.learned:
        marked = demo.galleries[arm][number].marked
        if marked is None:
            continue
        right = marked.answered == marked.expected
        axis.text(0.02, line, NAMES[arm], fontsize=8.5)
        answer = f"{marked.answered or '?'} {'✓' if right else '✗'}"
        axis.text(0.92, line, answer, fontsize=9.5, ha="right", color=GOOD if right else BAD)
        line += 0.1


def _draw_scale(figure: Any, first: Any, last: Any) -> None:
    """Draw the color scale below the two maps."""
    left, right = first.get_position().x0, last.get_position().x1
    axis = figure.add_axes((left, first.get_position().y0 - 0.055, right - left, 0.022))
    ticks = [np.log(m / figures.NEAR_M) / np.log(figures.FAR_M / figures.NEAR_M) for m in figures.TICKS_M]
    metres = np.geomspace(figures.NEAR_M, figures.FAR_M, 256)
    axis.imshow(figures.depth_colors(metres[None]), aspect="auto", extent=(0, 1, 0, 1))
    axis.set_yticks([])
    axis.set_xticks(ticks, [f"{m} m" for m in figures.TICKS_M], fontsize=8, color=SOFT)
    axis.tick_params(length=2, color=SOFT)
    for spine in axis.spines.values():
        spine.set_visible(False)
