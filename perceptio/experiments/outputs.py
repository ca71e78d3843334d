"""The files with an experiment's results."""

from collections.abc import Sequence
from pathlib import Path

from perceptio.errors import DataError
from perceptio.experiments.renderers import RENDERERS
from perceptio.experiments.report import report_html
from perceptio.experiments.results import ExperimentResult
from perceptio.experiments.summary import summarize
from perceptio.experiments.tables import table_of
from perceptio.ops.files import disk_errors, new_file

TABLE, REPORT = "table", "report.html"


def write_outputs(
    result: ExperimentResult, out: Path, figures: Sequence[str] | None = None
) -> tuple[Path, ...]:
    """Write `table.md`, `table.csv`, `table.tex`, `table.json` and `report.html`, replacing earlier ones.

    Args:
        result: The experiment, complete or not.
        out: Folder for the files.
        figures: The figures to show; see `perceptio.experiments.figures.chosen`.

    Returns:
        The files.

    Raises:
        InputError: No complete cell has a requested figure.
        DataError: A file of a cell is broken, or the files cannot be written.
    """
    summary = summarize(result, figures)
    table = table_of(summary)
    texts = {f"{TABLE}.{suffix}": render(table) for suffix, render in RENDERERS.items()}
    texts[REPORT] = report_html(summary, table)
    with disk_errors(out, DataError):
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with new_file(out / name) as new:
                new.write_text(text, encoding="utf-8")
    return tuple(out / name for name in texts)
