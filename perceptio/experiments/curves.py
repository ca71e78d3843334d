"""Curves over training steps, as inline SVG for an HTML page."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

TEXT_COLOR = "#123456"
"""Placeholder for the text color of the page while matplotlib draws."""
SMOOTHED = 5
"""Number of logged values that are averaged for a point of a smoothed curve."""

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps, and a value for each."""


@attrs.frozen(kw_only=True)
class Line:
    """A curve with its style.

    Attributes:
        curve: Its steps and values.
        color: Its color.
        width: Line width in points.
        opacity: In [0, 1].
    """

    curve: Curve
    color: str
    width: float = 1.4
    opacity: float = 1.0


def curves_svg(panels: Mapping[str, Sequence[Line]], *, columns: int = 3, logarithmic: bool = False) -> str:
    """Draw small multiples of curves over training steps, in the page's own text color.

    Args:
        panels: The lines of each panel, by its title.
        columns: Panels per row.
        logarithmic: Whether the vertical axis is logarithmic.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    rows = -(-len(panels) // columns)
    style: dict[Any, Any] = {
        name: TEXT_COLOR
        for name in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    }
    with plt.rc_context({**style, "font.size": 9, "axes.linewidth": 0.6, "svg.hashsalt": "perceptio"}):
        figure, axes = plt.subplots(rows, columns, figsize=(9.6, 2.3 * rows), squeeze=False)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
            axis.set_title(title, fontsize=9, loc="left", parse_math=False)
            for line in lines:
                # A line through a single point is invisible.
                marker = "o" if len(line.curve[0]) == 1 else None
                axis.plot(
                    *line.curve,
                    color=line.color,
                    linewidth=line.width,
                    alpha=line.opacity,
                    marker=marker,
                    markersize=3,
                )
            if logarithmic:
                axis.set_yscale("log")
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axis.yaxis.set_minor_formatter(NullFormatter())
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", color=TEXT_COLOR, alpha=0.12, linewidth=0.6)
            axis.tick_params(length=2)
        figure.tight_layout()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(TEXT_COLOR, "currentColor")


def smoothed(curve: Curve) -> Curve:
    """Return the running mean of a curve over `SMOOTHED` values, or over all if it has fewer."""
    steps, values = curve
    window = min(SMOOTHED, len(values))
    kernel = np.full(window, 1 / window)
    return list(steps[window - 1 :]), np.convolve(values, kernel, mode="valid").tolist()


def mean_of(curves: Sequence[Curve]) -> Curve:
    """Return the mean of several curves at the steps that all of them have."""
    by_step = [dict(zip(*curve, strict=True)) for curve in curves]
    steps = [step for step in by_step[0] if all(step in one for one in by_step)]
    return steps, [sum(one[step] for one in by_step) / len(by_step) for step in steps]
