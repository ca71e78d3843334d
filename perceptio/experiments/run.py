"""Running an experiment in its folder: its definition is written first, then its cells are run."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs
from filelock import FileLock

from perceptio.errors import DataError, InputError, near_miss
from perceptio.evaluation.replacements import Control
from perceptio.experiments.cell_summary import CellSummary, write_summary
from perceptio.experiments.display import Display
from perceptio.experiments.experiment import Experiment
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache, changed_defaults
from perceptio.experiments.launchers import Launcher
from perceptio.experiments.plan import Cell, Planner, check_seeds
from perceptio.experiments.results import (
    EXPERIMENT,
    SUMMARIES,
    ExperimentDocument,
    ExperimentResult,
    PlacedCell,
    read,
    read_cell,
    read_document,
)
from perceptio.experiments.summaries import find_summaries
from perceptio.ops.files import disk_errors
from perceptio.ops.json_files import write_json

MANY = 200
"""An experiment with more cells runs only if the user confirms their number."""


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """An experiment that is ready to run.

    Attributes:
        out: Its folder.
        root: The cache that stores its cells.
        document: Its definition, extended by earlier variants and seeds.
        cells: The cells of this call, in order.
        summaries: Summaries that stand for cells which are not run here, by name.
        warnings: Sentences that a user should read first.
    """

    out: Path
    root: Path
    document: ExperimentDocument
    cells: tuple[Cell, ...]
    summaries: Mapping[str, CellSummary] = attrs.field(factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs to run, in order and each once: cells with the same content share the jobs of the first."""
        jobs: dict[str, Job] = {}
        for cell in self.cells:
            if cell.summary in self.summaries:
                continue
            for job in cell.jobs:
                jobs.setdefault(job.name, job)
        return tuple(jobs.values())

    def start(self, launcher: Launcher, display: Display) -> ExperimentResult:
        """Run the jobs that are not complete.

        Args:
            launcher: Runs the jobs.
            display: Shows their progress.

        Returns:
            The state of the experiment afterwards, including cells that were not part of this call.

        Raises:
            DataError: A folder cannot be written, or holds something that no job wrote.
            PerceptioError: A job failed, and failures stop the experiment.
            Stopped: Ctrl-C or SIGTERM was received, and the jobs have saved their state.
        """
        with disk_errors(self.out, DataError), disk_errors(self.root, DataError):
            self._write_document()
            for summary in self.summaries.values():
                write_summary(self.root / SUMMARIES, summary)
            with display:
                launcher.run(self.jobs, JobCache(self.root), display)
        return read(self.out)

    def _write_document(self) -> None:
        """Write the definition, with seeds that another command may have added in the meantime."""
        self.out.mkdir(parents=True, exist_ok=True)
        with FileLock(self.out / f".{EXPERIMENT}.lock"):
            path, document = self.out / EXPERIMENT, self.document
            if path.exists():
                document = attrs.evolve(document, cells=self._with_cells_of(read_document(self.out)))
            write_json(path, attrs.asdict(document))

    def _with_cells_of(self, there: ExperimentDocument) -> tuple[PlacedCell, ...]:
        own = {(cell.variant, cell.seed) for cell in self.cells}
        placed = {(cell.variant, cell.seed): cell for cell in self.document.cells}
        for cell in there.cells:
            place = cell.variant, cell.seed
            if place not in own and (place not in placed or placed[place].fingerprint == cell.fingerprint):
                placed[place] = cell
        variants = list(dict.fromkeys(cell.variant for cell in self.document.cells))
        seeds = sorted({seed for _, seed in placed})
        return tuple(placed[place] for place in itertools.product(variants, seeds) if place in placed)


def prepare(
    experiment: Experiment,
    *,
    out: Path,
    seeds: Sequence[int],
    data: Sequence[Path] = (),
    controls: Sequence[Control] = (),
    cache: Path | None = None,
    only: str = "*",
    many: bool = False,
    rerun: bool = False,
) -> Run:
    """Find the cells of an experiment, and those that must be run, without writing anything.

    Args:
        experiment: The experiment.
        out: Its folder. A folder that holds the same experiment with other variants or seeds is extended.
        seeds: The seeds to run.
        data: The folders to evaluate cells on; empty: the recipes' validation data.
        controls: The controls of the evaluation.
        cache: The folder that stores cells, which several experiments may share; None: `out`.
        only: Run variants whose names match this shell pattern.
        many: Whether to allow more than `MANY` cells.
        rerun: Whether to run cells even if they have summaries.

    Raises:
        InputError: There is no seed or a repeated one, no variant matches, or there are too many cells.
        RecipeError: A recipe is invalid.
        DataError: There is nothing to evaluate on, a data folder cannot be read, `out` or `cache` is a file, or `out`
            holds another experiment.
    """
    check_seeds(seeds)
    _check_count(experiment, seeds, many=many)
    chosen = _chosen(experiment, only)
    root = out if cache is None else cache
    _check_folders(out, root)
    before = read_document(out) if (out / EXPERIMENT).exists() else None
    known = {} if before is None else {(cell.variant, cell.seed): cell for cell in before.cells}
    planner = Planner(experiment, data=data, controls=controls, root=root)
    cells = planner.cells(sorted({*(seed for _, seed in known), *seeds}))
    selected = tuple(cell for cell in cells if cell.variant in chosen and cell.seed in seeds)
    document = ExperimentDocument(
        name=experiment.name,
        baseline=experiment.baseline,
        data=planner.data,
        cache="." if cache is None else str(cache.absolute()),
        cells=tuple(
            cell.placed
            if cell in selected
            else _as_it_was(cell.placed, known.get((cell.variant, cell.seed)), root)
            for cell in cells
        ),
    )
    if before is not None:
        _check_same(out, before, document)
    warnings = [*_trained_on(planner), *_changed_defaults(selected, JobCache(root))]
    summaries = {} if rerun else _summaries(experiment, cells, root, warnings)
    return Run(
        out=out,
        root=root,
        document=document,
        cells=selected,
        summaries=summaries,
        warnings=tuple(warnings),
    )


def _check_count(experiment: Experiment, seeds: Sequence[int], *, many: bool) -> None:
    """Refuse more than `MANY` cells unless `many` allows them.

    Raises:
        InputError: There are more.
    """
    count = len(experiment.variants) * len(seeds)
    if count > MANY and not many:
        of_seeds = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
        raise InputError(
            f"{experiment.name} has {count:,} cells, {len(experiment.variants):,} variants with {of_seeds}, each a "
            "training: if so many are meant, say --yes."
        )


def _chosen(experiment: Experiment, only: str) -> set[str]:
    """The variants whose names match a pattern.

    Raises:
        InputError: None does.
    """
    chosen = {variant for variant in experiment.variants if fnmatchcase(variant, only)}
    if not chosen:
        raise InputError(f"No variant matches --only {only}{near_miss(only, experiment.variants)}")
    return chosen


def _check_folders(out: Path, root: Path) -> None:
    """Check that neither the experiment's folder nor its cache is a file.

    Raises:
        DataError: One is a file.
    """
    for option, folder in (("--out", out), ("--cache", root)):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{option} {folder} is a file, and a folder is needed: choose another.")


def _summaries(
    experiment: Experiment, cells: Sequence[Cell], root: Path, warnings: list[str]
) -> dict[str, CellSummary]:
    """Return the summaries of cells that were not begun here; add sentences about unused ones to `warnings`."""
    folders = [folder for folder in (experiment.summaries, root / SUMMARIES) if folder is not None]
    begun = [cell for cell in cells if read_cell(root, cell.placed, {}).status != "waiting"]
    return find_summaries([cell for cell in cells if cell not in begun], folders, warnings)


def _as_it_was(now: PlacedCell, before: PlacedCell | None, root: Path) -> PlacedCell:
    """Return a cell that is not part of this call as it was evaluated before, if it was."""
    if before is None or before.fingerprint != now.fingerprint:
        return now
    return before if read_cell(root, before).status == "complete" else now


def _trained_on(planner: Planner) -> Iterator[str]:
    seen = [path for path, content in planner.data.items() if content in planner.trained_on]
    if seen:
        yield (
            f"Cells are evaluated on {', '.join(seen)}, which they are trained on, too, and that flatters them: name "
            "other questions with --data."
        )


def _changed_defaults(cells: Sequence[Cell], cache: JobCache) -> Iterator[str]:
    """Yield a sentence about cells that are made again because a setting left at its default has a new default."""
    changed = [cell for cell in cells if any(cache.changed_defaults(job) for job in cell.jobs)]
    if changed:
        jobs = [job for cell in changed for job in cell.jobs]
        found = [
            one for job in jobs for one in changed_defaults(cache.record(job.name).defaults, job.defaults)
        ]
        such = f"{changed[0].variant!r} with seed {changed[0].seed}"
        yield (
            f"Cells that were begun under other defaults are made again, {len(changed)} of them, such as {such}: "
            f"{'; '.join(dict.fromkeys(found))}."
        )


def _check_same(out: Path, before: ExperimentDocument, now: ExperimentDocument) -> None:
    """Check that a folder holds this experiment, with the same or other variants and seeds.

    Raises:
        DataError: It holds another experiment; the message says what differs.
    """
    remedy = (
        f"choose another --out, or remove {out / EXPERIMENT} to begin anew: complete cells are kept, and reused "
        "where they are the same"
    )
    differs: Any = None
    placed = {(cell.variant, cell.seed): cell for cell in now.cells}
    changed = [
        cell
        for cell in before.cells
        if (cell.variant, cell.seed) in placed
        and placed[cell.variant, cell.seed].fingerprint != cell.fingerprint
    ]
    if before.name != now.name:
        differs = f"it is called {before.name}, and this one {now.name}"
    elif list(before.data.values()) != list(now.data.values()):
        differs = (
            f"it is evaluated on {', '.join(before.data)}, and this one on other data: {', '.join(now.data)}"
        )
    elif changed:
        such = f"{changed[0].variant!r} with seed {changed[0].seed}"
        differs = f"{len(changed)} of its cells, such as {such}, have another recipe or other data now"
    if differs is not None:
        raise DataError(f"{out} holds another experiment ({differs}): {remedy}.")
