"""A table as Markdown, CSV, LaTeX and JSON.

Markdown and LaTeX are for reading: numbers are rounded, and a legend explains their intervals. CSV and JSON are for
computation: numbers have full precision, and every interval has its own name.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from perceptio.experiments.contrasts import Contrast
from perceptio.experiments.summary import Estimate
from perceptio.experiments.tables import Column, Table, Value
from perceptio.ops.json_files import format_json, without_nan

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # After the end of a row it would begin the height of a gap.
    "--": "-{}-",  # Which would be a dash.
    "–": "--",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "…": r"\ldots{}",
}
"""Replacements for characters that are special in LaTeX, or missing in some fonts."""
SPECIAL = re.compile("|".join(map(re.escape, LATEX)))
MARKDOWN = re.compile(r"[\\`*|<\[~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Text that could be parsed as Markdown; an underscore within a word is not."""


def markdown(table: Table) -> str:
    """Return the table as GitHub's Markdown, with its legend, its notes and its unfinished cells."""
    head = [markdown_text(column.heading) for column in table.columns]
    rules = [":---" if column.kind == "text" else "---:" for column in table.columns]
    rows = [
        [
            markdown_text(text) if column.kind == "text" else text
            for column, text in zip(table.columns, texts, strict=True)
        ]
        for texts in table.texts()
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, rules, *rows)]
    parts = [f"# {markdown_text(table.title)}", "\n".join(lines)]
    if table.legend:
        parts.append(" ".join(map(markdown_text, table.legend)))
    said = [f"- {markdown_text(one.sentence)}" for one in table.unfinished]
    if said:
        parts.append("\n".join(("Not complete:", "", *said)))
    if table.notes:
        parts.append("\n".join(f"- {markdown_text(note)}" for note in table.notes))
    return "\n\n".join(parts) + "\n"


def latex(table: Table) -> str:
    r"""The table as a `tabular` of booktabs, and below it what must be said of it.

    It goes between `\begin{table}` and `\end{table}` of a document with `\usepackage{booktabs}`.
    """

    def row(cells: Iterable[str]) -> str:
        return " & ".join(cells) + r" \\"

    align = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    shown = [
        [
            latex_text(text) if column.kind == "text" else _latex_number(text)
            for column, text in zip(table.columns, texts, strict=True)
        ]
        for texts in table.texts()
    ]
    said = [*table.legend, *(f"{one.sentence}." for one in table.unfinished), *table.notes]
    lines = [
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        row(latex_text(column.heading) for column in table.columns),
        r"\midrule",
        *map(row, shown),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par{{\footnotesize {latex_text(sentence)}\par}}" for sentence in said),
    ]
    return "\n".join(lines) + "\n"


def csv_text(table: Table) -> str:
    """Return the table as CSV: a column for each number and each end of an interval."""
    rows = [_named(table.columns, row) for row in table.rows]
    names = list(_named(table.columns, [None] * len(table.columns)))
    said = {row[0]: [one.sentence for one in table.unfinished if one.variant == row[0]] for row in table.rows}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*names, "unfinished"])
    for row, (variant, *_) in zip(rows, table.rows, strict=True):
        writer.writerow([*row.values(), "; ".join(said[variant])])
    return buffer.getvalue()


def json_text(table: Table) -> str:
    """Return the table as JSON, with the figure of each seed and the counts of every pair of answers."""
    variants = []
    for row in table.rows:
        one: dict[str, Any] = {"figures": {}, "differences": {}}
        for column, value in zip(table.columns, row, strict=True):
            if isinstance(value, Estimate):
                one["figures"][column.name] = attrs.asdict(value)
            elif isinstance(value, Contrast):
                one["differences"][column.name] = attrs.asdict(value) | {"p": value.p}
            elif column.kind not in ("estimate", "difference"):
                one[column.name] = value
        variants.append({"variant": one.pop("variant"), **one})
    document = {
        "experiment": table.title,
        "baseline": table.baseline,
        "variants": variants,
        "unfinished": [attrs.asdict(one) for one in table.unfinished],
        "notes": list(table.notes),
    }
    return format_json(_with_text_keys(without_nan(document)), indent=1)


RENDERERS: Mapping[str, Callable[[Table], str]] = {
    "md": markdown,
    "csv": csv_text,
    "tex": latex,
    "json": json_text,
}
"""The function that renders a table, by the suffix of its file."""


def markdown_text(text: str) -> str:
    """Escape a text for a cell of a Markdown table, on one line."""
    return MARKDOWN.sub(lambda found: f"\\{found[0]}", " ".join(text.split()))


def latex_text(text: str) -> str:
    """Escape a text for a paragraph of LaTeX."""
    return _escaped(" ".join("".join(one if one.isprintable() else " " for one in text).split()))


def _escaped(text: str) -> str:
    return SPECIAL.sub(lambda found: LATEX[found[0]], text)


def _latex_number(text: str) -> str:
    """Return a number with its interval, with signs in math mode."""
    parts = re.split(r"(?<!\w)([+-]\d[\d.,]*)(?<=\d)", text)
    return "".join(f"${part}$" if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _named(columns: Iterable[Column], row: Iterable[Value]) -> dict[str, Any]:
    """Return the numbers of a row by the names of their CSV columns, which are the same for every row."""
    named: dict[str, Any] = {}
    for column, value in zip(columns, row, strict=True):
        if column.kind == "estimate":
            named[column.name] = getattr(value, "value", None)
            named |= _ends(column.name, getattr(value, "interval", None))
            named[f"{column.name}.over"] = getattr(value, "over", None)
        elif column.kind == "difference":
            name = f"{column.name}.difference"
            named[name] = getattr(value, "value", None)
            named |= _ends(f"{name}.questions", getattr(value, "of_questions", None))
            named |= _ends(f"{name}.seeds", getattr(value, "over_seeds", None))
            named[f"{name}.p"] = getattr(value, "p", None)
        else:
            named[column.name] = value
    return named


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}.low": low, f"{name}.high": high}


def _with_text_keys(value: Any) -> Any:
    """Return a value whose dictionaries have text keys, as JSON requires; seeds are numbers."""
    if isinstance(value, dict):
        return {str(key): _with_text_keys(held) for key, held in value.items()}
    return [_with_text_keys(one) for one in value] if isinstance(value, list) else value
