"""The results of an experiment so far: its cells, read from its folder.

The folder of an experiment:

experiment.json            the experiment: variants, seeds, the baseline, and the location of each cell
table.*, report.html       its results, as written by `perceptio report`
cells/FINGERPRINT/         the run of a cell: recipe.json, and the files of `perceptio train`
evaluations/FINGERPRINT/   the evaluation of a cell: metrics.json and answers.jsonl, the files of `perceptio eval`
tokenizers/FINGERPRINT/    a tokenizer of codes that several cells share
jobs/                      for each job its record, NAME.json, and its log, NAME.log
summaries/NAME.json        summaries of cells that were run elsewhere; see `perceptio.experiments.cell_summary`

All but experiment.json may be in another folder, which several experiments share (`--cache`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import DataError
from perceptio.evaluation.answers import (
    ANSWERS,
    AskedQuestion,
    read_answers,
    right_by_question,
    right_or_wrong,
)
from perceptio.experiments.cell_summary import CellSummary, read_summary
from perceptio.experiments.job_cache import JobCache, Status, covered_seconds
from perceptio.model.checkpoints.checkpoint import RECIPE
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import read_json, read_log
from perceptio.training.run_folder import METRICS

EXPERIMENT = "experiment.json"
CELLS, EVALUATIONS, TOKENIZERS, SUMMARIES = "cells", "evaluations", "tokenizers", "summaries"
FIGURES = "metrics.json"
"""File with the figures of an evaluation, by the path of each data folder."""
SUMMARY = "summary.json"
"""File with facts about an evaluation and its model: `parameters`, `device`, `versions`."""
EVALUATED_ANEW = "remove {evaluation}, and run `perceptio ablate` again, which evaluates the cell anew"
"""Advice for an evaluation that cannot be read."""


@attrs.frozen(kw_only=True)
class PlacedCell:
    """A cell of an experiment, and the names of its parts in the cache.

    Attributes:
        variant: The name of its variant.
        seed: Its seed.
        fingerprint: The fingerprint of its recipe, seed and data.
        evaluation: The fingerprint of its evaluation.
        tokenizers: The fingerprints of the tokenizers that are trained before it.
        controls: The controls of its evaluation.
        summary: The name of its summary, which need not exist.
    """

    variant: str
    seed: int
    fingerprint: str
    evaluation: str
    tokenizers: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    summary: str = ""

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of its jobs, in order."""
        names = [f"tokenizer_{one}" for one in self.tokenizers]
        return (*names, f"cell_{self.fingerprint}", f"evaluation_{self.evaluation}")


@attrs.frozen(kw_only=True)
class ExperimentDocument:
    """The content of `experiment.json`.

    Attributes:
        name: The experiment's name, which is that of its file.
        baseline: The variant that the others are compared with.
        data: A hash of the content of each folder that cells are evaluated on, by its path.
        cache: The folder that stores its cells; a relative path starts at the experiment's folder.
        cells: The cells, ordered by variant and then by seed.
    """

    name: str
    baseline: str
    data: Mapping[str, str]
    cache: str
    cells: tuple[PlacedCell, ...]


@attrs.frozen(kw_only=True)
class CellResult:
    """One cell: a variant's recipe, trained with a seed and evaluated.

    Attributes:
        variant: The name of its variant.
        seed: Its seed.
        fingerprint: The fingerprint of its recipe, seed and data.
        status: `"complete"`; `"failed"`; `"stopped"`: begun, and continued when the experiment is run again;
            `"waiting"`: not begun.
        folder: The folder of its run: recipe.json, and the files of `perceptio train`, such as metrics.jsonl, its
            learning curve. It may not exist before the cell is begun.
        figures: The figures that `Evaluation.run` returned; with several data folders, by each folder's path. Empty
            unless the cell is complete.
        answers: The file of its individual answers; see `perceptio.evaluation.answers`.
        seconds: Duration of its training and evaluation, including interrupted attempts; None if neither was begun.
        parameters: Number of parameters of the model; None unless the cell is complete.
        error: The error of a failed cell.
        summary: For a cell that was run elsewhere, its summary; `folder` and `answers` do not exist then.
        device: The device it was evaluated on; None: not known.
        versions: Versions of perceptio and of the libraries that computed it.
    """

    variant: str
    seed: int
    fingerprint: str
    status: Status
    folder: Path
    figures: Mapping[str, Any]
    answers: Path
    seconds: float | None
    parameters: int | None
    error: str
    summary: CellSummary | None = None
    device: str | None = None
    versions: Mapping[str, str] = attrs.field(factory=dict)

    def recipe(self) -> Any:
        """Return the JSON document of its recipe; None if the cell is not begun.

        Raises:
            DataError: The file is not a recipe.
        """
        if self.summary is not None:
            return self.summary.recipe
        path = self.folder / RECIPE
        if not path.is_file():
            return None
        document = read_json(path)
        if not isinstance(document, dict):
            raise DataError(f"{path} is no recipe: remove it, and run `perceptio ablate` again.")
        return document

    def curve(self) -> list[dict[str, Any]]:
        """Return its learning curve: the metrics of each logged step.

        Raises:
            DataError: The log is broken.
        """
        if self.summary is None:
            return read_log(self.folder / METRICS)[0]
        columns = self.summary.curve
        return [
            {name: value for name, value in zip(columns, row, strict=True) if value is not None}
            for row in zip(*columns.values(), strict=True)
        ]

    def right(self) -> dict[str, dict[AskedQuestion, bool]]:
        """Return whether each question was answered right, by scored figure.

        With several data folders, the names of scored figures are prefixed with the folder, as in `figures`.

        Raises:
            DataError: The answers cannot be read.
        """
        if self.summary is not None:
            return self.summary.marks.by_question()
        evaluation = self.answers.parent
        answers = read_answers(evaluation, remedy=EVALUATED_ANEW.format(evaluation=evaluation))
        right: dict[str, dict[AskedQuestion, bool]] = {}
        for data in dict.fromkeys(one.data for one in answers):
            of_folder = [one for one in answers if one.data == data]
            prefix = f"{data}." if data in self.figures else ""
            for scored in right_or_wrong(of_folder):
                right[f"{prefix}{scored}"] = right_by_question(of_folder, scored)
        return right


@attrs.frozen(kw_only=True)
class ExperimentResult:
    """The current state of an experiment.

    Attributes:
        name: Its name.
        baseline: The variant that the others are compared with.
        cells: The cells, ordered by variant and then by seed.
    """

    name: str
    baseline: str
    cells: tuple[CellResult, ...]

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of its variants, in order."""
        return tuple(dict.fromkeys(cell.variant for cell in self.cells))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds, in order."""
        return tuple(dict.fromkeys(cell.seed for cell in self.cells))

    def of_variant(self, name: str) -> tuple[CellResult, ...]:
        """Return the cells of a variant, by seed."""
        return tuple(cell for cell in self.cells if cell.variant == name)


def read(out: Path) -> ExperimentResult:
    """Read the experiment in a folder, as far as it has been run.

    Raises:
        DataError: The folder holds no experiment, or a file is broken.
    """
    document = read_document(out)
    root = out / document.cache
    return ExperimentResult(
        name=document.name,
        baseline=document.baseline,
        cells=tuple(read_cell(root, placed) for placed in document.cells),
    )


def read_document(out: Path) -> ExperimentDocument:
    """Read the definition of the experiment in a folder.

    Raises:
        DataError: The folder holds no experiment, or the file is broken.
    """
    path = out / EXPERIMENT
    if not path.is_file():
        raise DataError(f"{out} holds no experiment (it has no {EXPERIMENT}): run `perceptio ablate` first.")
    held = read_json(path, remedy="remove it, and run `perceptio ablate` again; complete cells are kept")
    with parsing(DataError, f"{path} does not describe an experiment ({{reason}}): remove it."):
        cells = [
            PlacedCell(**cell | {name: tuple(cell.get(name, ())) for name in ("tokenizers", "controls")})
            for cell in held["cells"]
        ]
        return ExperimentDocument(**held | {"cells": tuple(cells)})


def read_cell(
    root: Path, placed: PlacedCell, summaries: Mapping[str, CellSummary] | None = None
) -> CellResult:
    """Return the current state of a cell: as run in the cache, or otherwise from its summary.

    Args:
        root: The cache that stores it.
        placed: The cell.
        summaries: Summaries that may be used, by name; None: those kept in the cache.

    Raises:
        DataError: A file of a complete cell cannot be read.
    """
    cache, evaluation = JobCache(root), root / EVALUATIONS / placed.evaluation
    records = [cache.record(name) for name in placed.jobs]
    status = _status([record.status for record in records])
    if status == "complete" and not evaluation.exists():
        status = "stopped"  # It was removed, so that the cell is evaluated again.
    if status == "waiting" and (summary := _summary_of(root, placed, summaries)) is not None:
        return of_summary(summary, variant=placed.variant, fingerprint=placed.fingerprint)
    own = [interval for record in records[-2:] for interval in record.seen]
    figures: Mapping[str, Any] = {}
    about: dict[str, Any] = {}
    if status == "complete":
        remedy = EVALUATED_ANEW.format(evaluation=evaluation)
        by_folder = read_json(evaluation / FIGURES, remedy=remedy)
        figures = by_folder if len(by_folder) > 1 else next(iter(by_folder.values()))
        about = read_json(evaluation / SUMMARY, remedy=remedy)
    return CellResult(
        variant=placed.variant,
        seed=placed.seed,
        fingerprint=placed.fingerprint,
        status=status,
        folder=root / CELLS / placed.fingerprint,
        figures=figures,
        answers=evaluation / ANSWERS,
        seconds=covered_seconds(own) if own else None,
        parameters=about.get("parameters"),
        error=next((record.error for record in records if record.error), ""),
        device=about.get("device"),
        versions=about.get("versions", {}),
    )


def of_summary(summary: CellSummary, *, variant: str, fingerprint: str) -> CellResult:
    """Return a cell that was run elsewhere, with the name that its variant has here."""
    return CellResult(
        variant=variant,
        seed=summary.seed,
        fingerprint=fingerprint,
        status="complete",
        folder=Path(CELLS) / fingerprint,
        figures=summary.figures,
        answers=Path(EVALUATIONS) / ANSWERS,
        seconds=summary.seconds,
        parameters=summary.parameters,
        error="",
        summary=summary,
        device=summary.device,
        versions=summary.versions,
    )


def _summary_of(
    root: Path, placed: PlacedCell, summaries: Mapping[str, CellSummary] | None
) -> CellSummary | None:
    if summaries is not None:
        return summaries.get(placed.summary)
    path = root / SUMMARIES / f"{placed.summary}.json"
    if not placed.summary or not path.is_file():
        return None
    summary = read_summary(path)
    return summary if summary.serves(placed.controls) else None


def _status(jobs: list[Status]) -> Status:
    """Return the status of a cell from those of its jobs, in order: the last is complete only after the others."""
    if jobs[-1] == "complete":
        return "complete"
    if "failed" in jobs:
        return "failed"
    return "waiting" if set(jobs[-2:]) == {"waiting"} else "stopped"
