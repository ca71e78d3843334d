"""The figures of an evaluation by their paths, such as `relative_depth.mean`, and which of them a table shows."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import attrs

from perceptio.errors import InputError, near_miss

BESIDE = ("controls", "shortcuts")
"""Figures that do not describe the model's own answers; shown only on request."""


@attrs.frozen(kw_only=True)
class Figure:
    """A number of an evaluation.

    Attributes:
        value: The number.
        interval: Its 95% interval over questions, if the evaluation provides one.
        answers: The name under which answers are scored, if the figure is the accuracy of all of them; None for other
            figures and for parts, such as the accuracy at three points.
        count: Number of questions or items it covers, if known.
    """

    value: float
    interval: tuple[float, float] | None
    answers: str | None
    count: int | None


def flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Figure]:
    """Return every number of an evaluation by its path, without unmeasured values, texts and lists.

    The interval of a figure has the figure's name plus a suffix, or is a plain `interval`. A plain interval belongs
    to `mean`, or otherwise to the first figure that is not of one number of points.
    """
    found: dict[str, Figure] = {}
    headline = _headline(figures)
    count = figures.get("count")
    for name, value in figures.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            own = figures.get(f"{name}_interval", figures.get("interval") if name == headline else None)
            found[path] = Figure(
                value=float(value),
                interval=_interval(own),
                answers=prefix.rstrip(".") if name == headline and prefix else None,
                count=count if type(count) is int else None,
            )
    return found


def chosen(cells: Sequence[Mapping[str, Figure]], wanted: Sequence[str] | None) -> list[str]:
    """Return the figures that a table shows, in order.

    Args:
        cells: The figures of each cell.
        wanted: Their paths, which may have wildcards, or a task for its headline. None: all that have an interval and
            that every cell has, those with the most questions first.

    Raises:
        InputError: No cell has a requested figure.
    """
    known = {name: figure for cell in cells for name, figure in cell.items()}
    if wanted is not None:
        return list(dict.fromkeys(name for one in wanted for name in _matching(one, known)))
    shared = [name for name in _with_interval(known) if all(name in cell for cell in cells)]
    return sorted(shared, key=lambda name: -(known[name].count or 0))


def left_out(cells: Sequence[Mapping[str, Figure]], shown: Sequence[str]) -> list[str]:
    """Return the figures that `chosen` would show by default if every cell had them."""
    known = {name: figure for cell in cells for name, figure in cell.items()}
    return [name for name in _with_interval(known) if name not in shown]


def _with_interval(known: Mapping[str, Figure]) -> Iterator[str]:
    for name, figure in known.items():
        if figure.interval is not None and not set(BESIDE) & set(name.split(".")):
            yield name


def _matching(wanted: str, known: Mapping[str, Figure]) -> list[str]:
    of_task = [name for name, figure in known.items() if figure.answers == wanted]
    found = of_task or [name for name in known if fnmatchcase(name, wanted)]
    if not found:
        raise InputError(f"No complete cell has the figure {wanted!r}{near_miss(wanted, known)}")
    return found


def _headline(figures: Mapping[str, Any]) -> str | None:
    """Return the name of the figure that a plain `interval` belongs to."""
    if "interval" not in figures:
        return None
    of_answers = [name for name, value in figures.items() if isinstance(value, float) and not name.isdigit()]
    return "mean" if "mean" in of_answers else next(iter(of_answers), None)


def _interval(value: Any) -> tuple[float, float] | None:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 2 or not all(isinstance(one, int | float) for one in numbers):
        return None
    return float(numbers[0]), float(numbers[1])
