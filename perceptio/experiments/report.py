"""`report.html` of an experiment: one self-contained page."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import attrs

from perceptio.experiments.contrasts import Contrast
from perceptio.experiments.curves import Curve, Line, curves_svg, mean_of, smoothed
from perceptio.experiments.results import CellResult
from perceptio.experiments.summary import Summary
from perceptio.experiments.tables import Table, p_text
from perceptio.ops import page
from perceptio.ops.wording import number_of
from perceptio.recipe_changes import changes, terms
from perceptio.training.validation import PREFIX

COLORS = ("#3b7ddd", "#e08a1e", "#2f9e6e", "#a05bd0", "#d1495b", "#1f9fb4", "#b59410", "#d16ba5")
"""Colors of variants, after the baseline's; they repeat."""
BASELINE_COLOR = "#8a8f98"
LONGEST = 80
"""Maximum number of characters shown of a setting."""
SEED = "train.seed"
"""The setting in which cells of a variant differ."""


@attrs.frozen
class _Report:
    summary: Summary
    table: Table
    colors: Mapping[str, str]

    @property
    def compared(self) -> list[str]:
        """The variants other than the baseline."""
        return [one.name for one in self.summary.variants if one.name != self.summary.baseline]


def report_html(summary: Summary, table: Table) -> str:
    """Return the page of an experiment.

    Args:
        summary: Its results.
        table: The same results as a table.

    Raises:
        DataError: A log or a recipe of a cell is broken.
    """
    others = [one.name for one in summary.variants if one.name != summary.baseline]
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(others)}
    report = _Report(summary, table, {summary.baseline: BASELINE_COLOR, **colors})
    sections = (_headline, _unfinished, _differences, _learning_curves, _settings, _recipes)
    return page.page(summary.name, [html for section in sections if (html := section(report))])


def _headline(report: _Report) -> str:
    """Return a description of the experiment, and its table."""
    summary, table = report.summary, report.table
    cells = [cell for one in summary.variants for cell in one.cells]
    seeds = dict.fromkeys(str(cell.seed) for cell in cells)
    complete = sum(cell.status == "complete" for cell in cells)
    rows = []
    for number, texts in enumerate(table.texts()):
        name = summary.variants[number].name
        swatch = f'<i class="swatch" style="background:{report.colors[name]}"></i>'
        baseline = " <span class='soft'>baseline</span>" if name == summary.baseline else ""
        first = f"<span class='whole'>{swatch}{escape(name)}{baseline}</span>"
        rows.append([first, escape(texts[1]), *map(_above_its_interval, texts[2:])])
    notes = "".join(f"<li>{escape(note)}</li>" for note in summary.notes)
    return (
        f"<h1>{escape(summary.name)}</h1>"
        f'<p class="lead">{number_of(len(summary.variants), "variant")}, seeds {", ".join(seeds)}: '
        f"{complete} of {len(cells)} cells complete. "
        f"Differences are to <b>{escape(summary.baseline)}</b>.</p>"
        + page.table([escape(column.heading) for column in table.columns], rows)
        + f'<p class="caption">{escape(" ".join(table.legend))}</p>'
        + (f'<ul class="caption">{notes}</ul>' if notes else "")
    )


def _unfinished(report: _Report) -> str:
    """Return the cells that are not complete, with the errors of failed ones."""
    parts = [
        f"<p><b>{escape(one.variant)}</b>, seed {one.seed}: <span class='{_mood(one.status)}'>{one.status}</span></p>"
        + (f"<pre>{escape(one.error)}</pre>" if one.error else "")
        for one in report.summary.unfinished
    ]
    return f"<h2>Not complete</h2>{''.join(parts)}" if parts else ""


def _differences(report: _Report) -> str:
    """Return the paired differences of every figure, as forest plots."""
    plots = []
    for figure in report.summary.figures:
        marks = [
            page.Mark(
                label=escape(one.name),
                value=contrast.value,
                thick=contrast.of_questions,
                thin=contrast.over_seeds,
                color=report.colors[one.name],
                text=_said(contrast),
            )
            for one in report.summary.variants
            if (contrast := one.differences.get(figure)) is not None
        ]
        if marks:
            plots.append(f"<h3>{escape(figure)}</h3>{page.forest(marks)}")
    if not plots:
        return ""
    return (
        f"<h2>Differences to {escape(report.summary.baseline)}</h2>"
        "<p>The mean over seeds of the difference to the baseline with the same seed. Thick lines are 95% intervals "
        "on the same questions, by bootstrap over these: what other questions would give. Thin lines are 95% "
        "intervals over seeds, by Student's t: what training again would give, which few seeds leave wide open. p is "
        "that of McNemar's exact test, of each seed.</p>" + "".join(plots)
    )


def _learning_curves(report: _Report) -> str:
    """Return the training and validation losses over training steps."""
    logs = {(one.name, cell.seed): cell.curve() for one in report.summary.variants for cell in one.cells}
    recipes = [document for one in report.summary.variants if (document := _recipe(one.cells)) is not None]
    names = list(dict.fromkeys(("loss", *(term for document in recipes for term in terms(document)))))
    parts = []
    for title, prefix, smooth in (("Training", "", True), ("Validation", PREFIX, False)):
        panels = {name: _lines(report, logs, f"{prefix}{name}", smooth=smooth) for name in names}
        panels = {name: lines for name, lines in panels.items() if lines}
        if panels:
            parts.append(f'<h3>{title}</h3><div class="curves">{curves_svg(panels)}</div>')
    if not parts:
        return ""
    return (
        "<h2>Learning curves</h2><p>Losses over optimizer steps, before they are weighted; <code>loss</code> is "
        "their weighted sum, which is comparable between variants with the same losses only. Thin lines are seeds, "
        "thick ones their mean; those of training are running means.</p>"
        + page.key({escape(name): color for name, color in report.colors.items()})
        + "".join(parts)
    )


def _lines(
    report: _Report, logs: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]], metric: str, *, smooth: bool
) -> list[Line]:
    """Return the curves of a metric for every variant: a thin line for each seed, and a thick one for their mean."""
    lines = []
    for one in report.summary.variants:
        curves: list[Curve] = []
        for cell in one.cells:
            known = [line for line in logs[one.name, cell.seed] if metric in line]
            if known:
                curve = [line["step"] for line in known], [line[metric] for line in known]
                curves.append(smoothed(curve) if smooth else curve)
        color = report.colors[one.name]
        if len(curves) > 1:
            lines += [Line(curve=curve, color=color, width=0.7, opacity=0.45) for curve in curves]
        if curves:
            lines.append(Line(curve=mean_of(curves), color=color, width=1.8))
    return lines


def _settings(report: _Report) -> str:
    """Return how the recipe of each variant differs from the baseline's."""
    documents = {one.name: _recipe(one.cells) for one in report.summary.variants}
    baseline = documents.get(report.summary.baseline)
    parts = []
    for name in report.compared:
        document = documents[name]
        if baseline is None or document is None:
            continue
        found = [one for one in changes(baseline, document) if one.path != SEED]
        rows = [
            [f"<code>{escape(one.path)}</code>", *map(_code, one.shown(LONGEST, absent="–"))] for one in found
        ]
        head = ["setting", escape(report.summary.baseline), escape(name)]
        shown = page.table(head, rows, numbers=False) if rows else "<p>Every setting is the same.</p>"
        parts.append(f"<h3>{escape(name)}</h3>{shown}")
    return f"<h2>What the variants change</h2>{''.join(parts)}" if parts else ""


def _recipes(report: _Report) -> str:
    """Return the recipe of each variant as JSON, from its first seed."""
    parts = [
        f"<details><summary>{escape(one.name)} · <code>{escape(one.cells[0].fingerprint)}</code></summary>"
        f"<pre>{escape(json.dumps(document, indent=2, ensure_ascii=False))}</pre></details>"
        for one in report.summary.variants
        if (document := _recipe(one.cells)) is not None
    ]
    return f"<h2>Recipes</h2>{''.join(parts)}" if parts else ""


def _recipe(cells: Sequence[CellResult]) -> Any:
    """Return the recipe's JSON document of the first cell that has begun; None if none has."""
    return next((document for cell in cells if (document := cell.recipe()) is not None), None)


def _said(contrast: Contrast) -> str:
    """Return a difference and its test, in numbers."""
    interval = contrast.of_questions or contrast.over_seeds
    said = f"{contrast.value:+.4f}"
    if interval is not None:
        said += f" <span class='soft'>[{interval[0]:+.4f}, {interval[1]:+.4f}]</span>"
    if contrast.pairs:
        tests = ", ".join(f"p {p_text(one.p)}" for one in contrast.pairs.values())
        said += f"<br><span class='soft'>{escape(tests)}</span>"
    return said


def _mood(status: str) -> str:
    return "wrong" if status == "failed" else "soft"


def _above_its_interval(text: str) -> str:
    """Return a number with its interval below it."""
    value, _, interval = text.partition(" ")
    return (
        f"{escape(value)}<br><span class='soft whole'>{escape(interval)}</span>"
        if interval
        else escape(value)
    )


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
