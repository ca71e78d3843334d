"""An experiment as one table: a row for each variant, and for each figure its estimate and its difference.

The table holds numbers; `perceptio.experiments.renderers` writes it as Markdown, CSV, LaTeX and JSON.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import attrs

from perceptio.experiments.contrasts import Contrast
from perceptio.experiments.summary import Estimate, Summary

Kind = Literal["text", "count", "seconds", "estimate", "difference"]
Value = str | int | float | Estimate | Contrast | None
NOTHING = "–"
"""Text for a missing number."""
MOST_DECIMALS = 4
SMALLEST_P = 0.0001


@attrs.frozen(kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name; for a figure its path.
        kind: The kind of its values.
    """

    name: str
    kind: Kind

    @property
    def heading(self) -> str:
        """Its heading."""
        return f"Δ {self.name}" if self.kind == "difference" else self.name


@attrs.frozen(kw_only=True)
class Unfinished:
    """A cell that is not complete.

    Attributes:
        variant: The name of its variant.
        seed: Its seed.
        status: Its status.
        error: The error of a failed cell, on one line.
    """

    variant: str
    seed: int
    status: str
    error: str

    @property
    def sentence(self) -> str:
        """A description of the cell's status."""
        return f"{self.variant}, seed {self.seed}: {self.status}{f': {self.error}' if self.error else ''}"


@attrs.frozen(kw_only=True)
class Table:
    """An experiment as a table.

    Attributes:
        title: The experiment's name.
        baseline: The variant that differences refer to.
        columns: Its columns; the first contains the variants' names.
        rows: For each variant, a value for each column.
        unfinished: The cells that are not complete.
        notes: What a reader must know about comparisons.
    """

    title: str
    baseline: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    unfinished: tuple[Unfinished, ...]
    notes: tuple[str, ...]

    def texts(self) -> list[list[str]]:
        """Return every value as text; within a column, intervals determine the number of decimals."""
        columns = zip(*self.rows, strict=True)
        shown = [_shown(column, values) for column, values in zip(self.columns, columns, strict=True)]
        return [list(row) for row in zip(*shown, strict=True)]

    @property
    def legend(self) -> list[str]:
        """Explanations of its numbers, one sentence for each kind that occurs."""
        values = [value for row in self.rows for value in row]
        estimates = [value for value in values if isinstance(value, Estimate)]
        contrasts = [value for value in values if isinstance(value, Contrast)]
        said = {
            "Mean ± half of the 95% interval over seeds, by Student's t.": any(
                one.over == "seeds" for one in estimates
            ),
            "In parentheses: the 95% interval of the questions, of a single seed.": any(
                one.over == "questions" for one in estimates
            ),
            f"Δ: the difference to {self.baseline}, seed by seed.": bool(contrasts),
            "In brackets: its 95% interval on the same questions, by bootstrap over these; other seeds may differ "
            "by more.": any(one.of_questions is not None for one in contrasts),
            "Δ ± half of the 95% interval of its differences over seeds, by Student's t.": any(
                one.of_questions is None and one.over_seeds is not None for one in contrasts
            ),
            "p: McNemar's exact test, of a single seed.": any(one.p is not None for one in contrasts),
        }
        return [sentence for sentence, applies in said.items() if applies]


def table_of(summary: Summary) -> Table:
    """Return a summary as a table."""
    compared = any(one.differences for one in summary.variants)
    columns = [Column(name="variant", kind="text"), Column(name="seeds", kind="text")]
    for figure in summary.figures:
        columns.append(Column(name=figure, kind="estimate"))
        if compared and any(figure in one.differences for one in summary.variants):
            columns.append(Column(name=figure, kind="difference"))
    columns += [Column(name="seconds", kind="seconds"), Column(name="parameters", kind="count")]
    rows = list[tuple[Value, ...]]()
    for one in summary.variants:
        count, planned = one.complete, len(one.cells)
        fixed: dict[str, Value] = {
            "variant": one.name,
            "seeds": str(count) if count == planned else f"{count} of {planned}",
            "seconds": one.seconds,
            "parameters": one.parameters,
        }
        found: dict[str, Mapping[str, Value]] = {"estimate": one.figures, "difference": one.differences}
        rows.append(tuple(found.get(column.kind, fixed).get(column.name) for column in columns))
    return Table(
        title=summary.name,
        baseline=summary.baseline,
        columns=tuple(columns),
        rows=tuple(rows),
        unfinished=tuple(
            Unfinished(
                variant=cell.variant, seed=cell.seed, status=cell.status, error=" ".join(cell.error.split())
            )
            for cell in summary.unfinished
        ),
        notes=summary.notes,
    )


def _shown(column: Column, values: Iterable[Value]) -> list[str]:
    values = list(values)
    decimals = _decimals(half for value in values for half in _halves(value))
    return [_text(value, column.kind, decimals) for value in values]


def _halves(value: Value) -> Iterator[float]:
    """Yield half the width of the interval that is shown with a value."""
    interval = value.interval if isinstance(value, Estimate) else None
    if isinstance(value, Contrast):
        interval = value.of_questions or value.over_seeds
    if interval is not None:
        yield (interval[1] - interval[0]) / 2


def _decimals(halves: Iterable[float]) -> int | None:
    """Return the decimals with which the narrowest interval has two digits, at most four; None without intervals."""
    known = [half for half in halves if half > 0]
    if not known:
        return None
    return min(max(1 - math.floor(math.log10(min(known))), 0), MOST_DECIMALS)


def _text(value: Value, kind: Kind, decimals: int | None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, Estimate):
        return _estimate(value, decimals)
    if isinstance(value, Contrast):
        return _contrast(value, decimals)
    if kind == "seconds" and not isinstance(value, str):
        return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
    return value if isinstance(value, str) else f"{value:,}"


def _number(value: float, decimals: int | None, sign: str = "") -> str:
    """Format a number; one that rounds to zero has no minus sign."""
    if decimals is None:
        return f"{value + 0.0:{sign}.4g}"
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"


def _estimate(value: Estimate, decimals: int | None) -> str:
    mean = _number(value.value, decimals)
    if value.interval is None:
        return mean
    low, high = value.interval
    if value.over == "seeds":
        return f"{mean} ± {_number((high - low) / 2, decimals)}"
    return f"{mean} ({_number(low, decimals)}–{_number(high, decimals)})"


def _contrast(value: Contrast, decimals: int | None) -> str:
    mean = _number(value.value, decimals, "+")
    if value.of_questions is None:
        if value.over_seeds is None:
            return mean
        low, high = value.over_seeds
        return f"{mean} ± {_number((high - low) / 2, decimals)}"
    low, high = value.of_questions
    p = "" if value.p is None else f", p {p_text(value.p)}"
    return f"{mean} [{_number(low, decimals, '+')}, {_number(high, decimals, '+')}]{p}"


def p_text(p: float) -> str:
    """Format a p-value as `= 0.012`; very small ones as a bound, as exact tests of many questions give them."""
    return f"= {p:.2g}" if p >= SMALLEST_P else f"< {SMALLEST_P}"
