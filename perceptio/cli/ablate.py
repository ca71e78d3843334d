"""`perceptio ablate`: train every variant of an experiment with several seeds, and evaluate the models."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from perceptio.cli.console import console, console_of_jobs, say, say_when
from perceptio.cli.files import path
from perceptio.cli.recipe import pairs, showing_its_traceback
from perceptio.cli.tracking import TrackOption

if TYPE_CHECKING:
    from rich.console import Console

    from perceptio.experiments.launchers import Launcher
    from perceptio.experiments.progress import CellProgress
    from perceptio.experiments.results import CellResult, ExperimentResult
    from perceptio.experiments.run import Run

SEEDS = "--seeds"
LAUNCHER_SETTING = "--launcher-setting"
LISTED = re.compile(r"[0-9, ]+")
FAILED = 1
"""Exit status if a cell has failed."""


class Command(TyperCommand):
    """Lets `--seeds 0 1 2` be written without commas; an option of click accepts a single value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Command.parse_args`."""
        joined: list[str] = []
        for word in args:
            if len(joined) > 1 and joined[-2] == SEEDS and LISTED.fullmatch(f"{joined[-1]} {word}"):
                joined[-1] += f" {word}"
            else:
                joined.append(word)
        return super().parse_args(ctx, joined)


FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A Python file with variants(), which returns recipes by name, and BASELINE, the name of one of them; "
        "or the name of an experiment that ships with the library.",
    ),
]
SeedsOption = Annotated[
    list[str] | None,
    typer.Option(SEEDS, metavar="N...", help="Seeds to run each variant with.", show_default="0 1 2"),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        parser=path, help="Folder of the experiment.", show_default="runs/ablations/ plus the file's name"
    ),
]
DataOption = Annotated[
    list[Path] | None,
    typer.Option(
        parser=path,
        help="Data folder to evaluate every cell on; may be repeated.",
        show_default="the recipes' data.validation",
    ),
]
ControlsOption = Annotated[
    str | None,
    typer.Option(help="Controls for the evaluation: all, or names, as for `perceptio eval --controls`."),
]
TinyOption = Annotated[bool, typer.Option("--tiny", help="Run the file's tiny() instead of its variants().")]
OnlyOption = Annotated[str, typer.Option(metavar="GLOB", help="Run only variants whose names match.")]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Cells to run in parallel.", show_default="one per GPU; without GPUs, one per core"
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        metavar="MINUTES",
        help="Stop a training or an evaluation that takes longer, and count it as failed.",
        show_default="never",
    ),
]
StopOnFailureOption = Annotated[
    bool,
    typer.Option("--stop-on-failure", help="Stop all cells when one fails; by default the others continue."),
]
LauncherOption = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Where cells run: local, slurm, or PLUGIN/NAME for a plugin's launcher."
    ),
]
LauncherSettingOption = Annotated[
    list[str] | None,
    typer.Option(
        LAUNCHER_SETTING,
        metavar="KEY=VALUE",
        help="A setting of the launcher, such as partition=gpu; may be repeated.",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        help="Folder that stores cells; experiments that share it run no cell twice.",
        show_default="the experiment's own folder",
    ),
]
RerunOption = Annotated[
    bool, typer.Option("--rerun", help="Run cells even if their summaries exist beside the file.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Confirm a large number of cells.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show the cells and what would run; write nothing.")
]


def run(
    file: FileArgument,
    seeds: SeedsOption = None,
    out: OutOption = None,
    data: DataOption = None,
    controls: ControlsOption = None,
    tiny: TinyOption = False,
    only: OnlyOption = "*",
    jobs: JobsOption = None,
    timeout: TimeoutOption = None,
    stop_on_failure: StopOnFailureOption = False,
    launcher: LauncherOption = "local",
    launcher_setting: LauncherSettingOption = None,
    cache: CacheOption = None,
    track: TrackOption = None,
    rerun: RerunOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Train and evaluate every variant of an experiment with every seed, skipping what is complete.

    The same command continues an interrupted experiment, and runs only what additional variants or seeds need. A cell
    is a recipe, a seed and its data; it is never run twice.
    """
    from perceptio.evaluation.replacements import controls_named
    from perceptio.experiments.experiment import load_experiment
    from perceptio.experiments.launchers import LaunchSettings, launcher_named
    from perceptio.experiments.progress import CellProgress
    from perceptio.experiments.run import prepare

    _track(track)
    settings = LaunchSettings(
        jobs=jobs, timeout_s=None if timeout is None else 60 * timeout, stop_on_failure=stop_on_failure
    )
    where = launcher_named(launcher, settings, pairs(LAUNCHER_SETTING, launcher_setting, "partition=gpu"))
    named = controls_named(controls) if controls is not None else ()
    with showing_its_traceback():
        experiment = load_experiment(file, tiny=tiny)
        ready = prepare(
            experiment,
            out=out or Path("runs/ablations") / experiment.name,
            seeds=_seeds(seeds),
            data=data or (),
            controls=named,
            cache=cache,
            only=only,
            many=yes,
            rerun=rerun,
        )
    shown = console_of_jobs()
    progress = CellProgress(ready.cells, ready.root, shown, partial(say_when, shown), ready.summaries)
    _say_before(shown, ready)
    if dry_run:
        shown.print(progress.table())
        say(shown, _what_would_run(ready))
        return
    result = _run_cells(ready, where, shown, progress)
    _write_report(shown, ready.out, result)
    if failed := progress.failed():
        _say_failed(shown, failed)
        raise typer.Exit(FAILED)


def _track(names: list[str] | None) -> None:
    """Pass tracker names to training processes in an environment variable, so that cell identities do not change."""
    from perceptio.training.trackers import VARIABLE, check_trackers

    if names:
        check_trackers(names)
        os.environ[VARIABLE] = ",".join(names)


def _say_before(shown: "Console", ready: "Run") -> None:
    """Print warnings, and what is known from summaries, before anything runs."""
    for warning in ready.warnings:
        say(console(stderr=True), warning, style="yellow")
    if ready.summaries:
        say(shown, _by_summaries(ready))


def _run_cells(
    ready: "Run", where: "Launcher", shown: "Console", progress: "CellProgress"
) -> "ExperimentResult":
    """Run the cells that are not complete, and show their status, even after an interruption or a failure.

    Raises:
        PerceptioError: See `Run.start`.
    """
    from perceptio.ops.interrupts import Stopped

    try:
        return ready.start(where, progress)
    except Stopped:
        say(shown, "Stopped. The same command goes on.")
        raise
    finally:
        shown.print(progress.table())
        say(shown, f"{ready.out}: {progress.sentence()}.")


def _write_report(shown: "Console", out: Path, result: "ExperimentResult") -> None:
    """Write the tables and the page, if at least one cell is complete."""
    from perceptio.experiments.outputs import write_outputs

    if any(cell.status == "complete" for cell in result.cells):
        *tables, page = write_outputs(result, out)
        say(shown, f"Report: {page}; its table is in {', '.join(table.name for table in tables)} beside it.")


def _say_failed(shown: "Console", failed: Sequence["CellResult"]) -> None:
    for cell in failed:
        say(shown, f"{cell.variant}, seed {cell.seed}, failed: {cell.error}", style="red")
    say(shown, "The same command tries them again, and runs nothing else.")


def _seeds(given: list[str] | None) -> list[int]:
    """Parse seeds in any accepted form: `0 1 2`, `0,1,2`, or the option repeated.

    Raises:
        InputError: A seed is not a whole number.
    """
    from perceptio.errors import InputError

    words = " ".join(given or ["0 1 2"]).replace(",", " ").split()
    try:
        return [int(word) for word in words]
    except ValueError:
        raise InputError(
            f"--seeds {' '.join(words)} are not seeds: give whole numbers, such as --seeds 0 1 2."
        ) from None


def _by_summaries(ready: "Run") -> str:
    """Say in a sentence how many cells need not run here because a summary exists."""
    count = sum(cell.summary in ready.summaries for cell in ready.cells)
    return (
        f"{count} of {len(ready.cells)} cells are known from summaries that lie beside the file, and are not run; "
        "--rerun runs them here."
    )


def _what_would_run(ready: "Run") -> str:
    """Say in a sentence how much of an experiment is left to run."""
    from collections import Counter

    from perceptio.experiments.job_cache import JobCache

    cache = JobCache(ready.root)
    left = Counter(job.stage for job in ready.jobs if not cache.complete(job))
    if not left:
        return "Nothing would run: every cell is complete."
    said = ", ".join(f"{count} {stage} job{'s' * (count > 1)}" for stage, count in left.items())
    return f"Would run in {ready.root}: {said}. Cells of the same content are run once."
