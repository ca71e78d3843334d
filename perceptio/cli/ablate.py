"""`perceptio ablate`: the variants of an experiment, each trained with several seeds and evaluated."""

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
"""Exit status where a cell has failed."""


class Command(TyperCommand):
    """Lets `--seeds 0 1 2` be written as one writes it elsewhere; an option of click has one value."""

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
        help="A Python file with variants() -> recipes by name and BASELINE, the name of one; or the name of one "
        "that comes with the library.",
    ),
]
SeedsOption = Annotated[
    list[str] | None,
    typer.Option(SEEDS, metavar="N...", help="Seeds that each variant is run with.", show_default="0 1 2"),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        parser=path, help="The experiment's folder.", show_default="runs/ablations/ and the file's name"
    ),
]
DataOption = Annotated[
    list[Path] | None,
    typer.Option(
        parser=path,
        help="Folder with questions that every cell is evaluated on; repeated: several.",
        show_default="the recipes' data.validation",
    ),
]
ControlsOption = Annotated[
    str | None,
    typer.Option(help="Passed on to evaluation: all, or names, as `perceptio eval --controls` takes them."),
]
TinyOption = Annotated[bool, typer.Option("--tiny", help="Run the file's tiny() in place of its variants().")]
OnlyOption = Annotated[str, typer.Option(metavar="GLOB", help="Run the variants whose names match.")]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Cells side by side.", show_default="one a GPU, or one a core where there is none"
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        metavar="MINUTES",
        help="End a training or an evaluation that takes longer, as failed.",
        show_default="never",
    ),
]
StopOnFailureOption = Annotated[
    bool, typer.Option("--stop-on-failure", help="Stop all when one fails; by default the others go on.")
]
LauncherOption = Annotated[
    str, typer.Option(metavar="NAME", help="Where cells run: local, slurm, or a plugin's, PLUGIN/NAME.")
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
        help="Folder that cells lie in; experiments that share it run no cell twice.",
        show_default="the experiment's own",
    ),
]
RerunOption = Annotated[
    bool, typer.Option("--rerun", help="Run cells though summaries of them lie beside the file.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="So many cells are meant.")]
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
    """Train and evaluate every variant of an experiment with every seed, as far as that is not done already.

    Run again, it goes on where it was stopped; more variants or seeds are added to what is there. A cell, which is a
    recipe, a seed and data, is never run twice.
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
    """Name trackers to the processes that train, by a variable, which is no part of a cell's identity."""
    from perceptio.training.trackers import VARIABLE, check_trackers

    if names:
        check_trackers(names)
        os.environ[VARIABLE] = ",".join(names)


def _say_before(shown: "Console", ready: "Run") -> None:
    """What a user should know before anything runs."""
    for warning in ready.warnings:
        say(console(stderr=True), warning, style="yellow")
    if ready.summaries:
        say(shown, _by_summaries(ready))


def _run_cells(
    ready: "Run", where: "Launcher", shown: "Console", progress: "CellProgress"
) -> "ExperimentResult":
    """Run what is not complete, and show how far that has come, even where it was stopped or failed.

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
    """Write the tables and the page, if any cell is complete."""
    from perceptio.experiments.outputs import write_outputs

    if any(cell.status == "complete" for cell in result.cells):
        *tables, page = write_outputs(result, out)
        say(shown, f"Report: {page}; its table is in {', '.join(table.name for table in tables)} beside it.")


def _say_failed(shown: "Console", failed: Sequence["CellResult"]) -> None:
    for cell in failed:
        say(shown, f"{cell.variant}, seed {cell.seed}, failed: {cell.error}", style="red")
    say(shown, "The same command tries them again, and runs nothing else.")


def _seeds(given: list[str] | None) -> list[int]:
    """Seeds as they may be written: `0 1 2`, `0,1,2`, or the option repeated.

    Raises:
        InputError: One is no whole number.
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
    """How many cells need not be run here, in a sentence."""
    count = sum(cell.summary in ready.summaries for cell in ready.cells)
    return (
        f"{count} of {len(ready.cells)} cells are known from summaries that lie beside the file, and are not run; "
        "--rerun runs them here."
    )


def _what_would_run(ready: "Run") -> str:
    """How much of an experiment is left, in a sentence."""
    from collections import Counter

    from perceptio.experiments.job_cache import JobCache

    cache = JobCache(ready.root)
    left = Counter(job.stage for job in ready.jobs if not cache.complete(job))
    if not left:
        return "Nothing would run: every cell is complete."
    said = ", ".join(f"{count} {stage} job{'s' * (count > 1)}" for stage, count in left.items())
    return f"Would run in {ready.root}: {said}. Cells of the same content are run once."
