"""Summaries of an experiment's cells: written when cells are complete, found by whoever has the same cells, and read
as results if nothing is run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import DataError, PerceptioError
from perceptio.evaluation.answers import ANSWERS
from perceptio.experiments.cell_summary import CellSummary, Marks, read_summary, write_summary
from perceptio.experiments.experiment import Experiment
from perceptio.experiments.plan import Cell, with_training
from perceptio.experiments.results import (
    CELLS,
    EVALUATIONS,
    CellResult,
    ExperimentResult,
    PlacedCell,
    of_summary,
    read,
    read_document,
)
from perceptio.recipe_changes import terms
from perceptio.serialize import from_json
from perceptio.training.validation import PREFIX

MOST_POINTS = 100
"""Maximum number of points of a learning curve in a summary."""
DIGITS = 5
"""Significant digits of its values."""
WHERE = ("folders", "validation")
"""Settings with locations of data; a summary identifies data by content."""


def read_summaries(experiment: Experiment) -> ExperimentResult:
    """Read an experiment from the summaries beside its file; cells without a summary are waiting.

    A summary is not used if the recipe of its variant has changed since.

    Raises:
        DataError: There are no summaries, one is broken, or two belong to the same cell.
        RecipeError: A recipe is invalid.
    """
    folder = experiment.summaries
    files = [] if folder is None else sorted(folder.glob("*.json"))
    if not files:
        raise DataError(
            f"There are no summaries of the cells of {experiment.name} in {folder}: run it with `perceptio ablate`, "
            "and report its folder."
        )
    found: dict[tuple[str, int], CellSummary] = {}
    for file in files:
        summary = read_summary(file)
        place = summary.variant, summary.seed
        if summary.variant not in experiment.variants or not is_current(summary, experiment):
            continue
        if place in found:
            raise DataError(
                f"{folder} has two summaries of {summary.variant!r} with seed {summary.seed}, of other data, "
                f"{found[place].name} and {summary.name}: remove one."
            )
        found[place] = summary
    if not found:
        raise DataError(
            f"None of the {len(files)} summaries in {folder} is of a recipe that a variant of {experiment.name} has "
            "now: run it with `perceptio ablate`, and report its folder."
        )
    seeds = sorted({seed for _, seed in found})
    return ExperimentResult(
        name=experiment.name,
        baseline=experiment.baseline,
        cells=tuple(
            of_summary(known, variant=variant, fingerprint=known.cell)
            if (known := found.get((variant, seed))) is not None
            else _waiting(variant, seed)
            for variant in experiment.variants
            for seed in seeds
        ),
    )


def is_current(summary: CellSummary, experiment: Experiment) -> bool:
    """Return whether the recipe of a summary is still its variant's recipe, wherever data are.

    Settings that were declared later have their default in it.
    """
    now = with_training(experiment.recipe(summary.variant), seed=summary.seed)
    try:
        then = from_json(summary.recipe)
    except PerceptioError:  # It uses something that no longer exists.
        return False
    data = {name: getattr(now.data, name) for name in WHERE}
    return bool(attrs.evolve(then, name=now.name, data=attrs.evolve(then.data, **data)) == now)


def find_summaries(
    cells: Sequence[Cell], folders: Sequence[Path], warnings: list[str]
) -> dict[str, CellSummary]:
    """Return the summaries that stand for cells, by name.

    Args:
        cells: The cells.
        folders: Folders to search.
        warnings: Receives sentences about summaries that are not used.

    Raises:
        DataError: A summary is broken.
    """
    found: dict[str, CellSummary] = {}
    changed: dict[str, Cell] = {}
    for cell in cells:
        for path in (folder / f"{cell.summary}.json" for folder in folders):
            if not path.is_file() or cell.summary in found:
                continue
            summary = read_summary(path)
            defaults = list(
                summary.changed_defaults(cell.training.settings["recipe"], cell.training.defaults)
            )
            for one in defaults:
                changed.setdefault(one, cell)
            if not defaults and summary.serves(cell.controls):
                found[cell.summary] = summary
    if changed:
        such = next(iter(changed.values()))
        warnings.append(
            f"Summaries of cells that had other defaults are not used, such as that of {such.variant!r} with seed "
            f"{such.seed}: {'; '.join(changed)}."
        )
    return found


def write_summaries(out: Path, folder: Path) -> tuple[Path, ...]:
    """Write a summary of every complete cell of an experiment that was run here.

    Args:
        out: The experiment's folder.
        folder: Folder for the summaries, such as the one beside the experiment's file.

    Returns:
        The files.

    Raises:
        DataError: `out` holds no experiment, a file of a cell cannot be read, or the summaries cannot be written.
    """
    document, result = read_document(out), read(out)
    return tuple(
        write_summary(folder, _summary_of(cell, placed, tuple(document.data.values())))
        for cell, placed in zip(result.cells, document.cells, strict=True)
        if cell.status == "complete" and cell.summary is None
    )


def _summary_of(cell: CellResult, placed: PlacedCell, data: Sequence[str]) -> CellSummary:
    """Return the summary of a complete cell.

    Args:
        cell: The cell.
        placed: Its entry in the experiment.
        data: A hash of the content of each folder that it was evaluated on.

    Raises:
        DataError: One of its files cannot be read.
    """
    recipe, lines = cell.recipe(), cell.curve()
    metrics = [f"{prefix}{name}" for prefix in ("", PREFIX) for name in ("loss", *terms(recipe))]
    lines = lines[:: max(1, -(-len(lines) // MOST_POINTS))]
    return CellSummary(
        variant=cell.variant,
        seed=cell.seed,
        cell=placed.fingerprint,
        data=tuple(data),
        controls=placed.controls,
        recipe=recipe,
        figures=cell.figures,
        marks=Marks.of(cell.right()),
        curve={
            name: [_short(line.get(name)) for line in lines]
            for name in ("step", *metrics)
            if any(name in line for line in lines)
        },
        seconds=None if cell.seconds is None else round(cell.seconds, 1),
        parameters=cell.parameters,
        device=cell.device,
        versions=cell.versions,
    )


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _waiting(variant: str, seed: int) -> CellResult:
    """Return a cell about which nothing is known."""
    return CellResult(
        variant=variant,
        seed=seed,
        fingerprint="",
        status="waiting",
        folder=Path(CELLS),
        figures={},
        answers=Path(EVALUATIONS) / ANSWERS,
        seconds=None,
        parameters=None,
        error="",
    )
