"""Figures as tables on a terminal."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def figure_table(title: str, figures: Mapping[str, Any]) -> "Table":
    """Return a table of nested figures, one per row, by dotted names."""
    from rich.table import Table

    table = Table("figure", "value", box=None, title=title)
    for name, value in _flat(figures):
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    return table


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", [round(one, 4) for one in value] if isinstance(value, list) else value
