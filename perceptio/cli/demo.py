"""`perceptio demo`: train and evaluate a small model and its controls."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceptio.cli.console import console_of_jobs, say, say_when
from perceptio.cli.files import path

if TYPE_CHECKING:
    from rich.table import Table


def run(
    out: Annotated[
        Path, typer.Option(parser=path, help="Folder for everything that the demo writes.")
    ] = Path("runs/demo"),
    seed: Annotated[
        int, typer.Option(help="Seed for scenes, initial weights and the order of training.")
    ] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over: discard what an earlier demo left in the folder.")
    ] = False,
    scenes: Annotated[
        int | None,
        typer.Option(help="Number of training scenes; fewer for a quick look.", show_default="8000"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Optimizer steps of every training; fewer for a quick look.",
            show_default="as in the recipes",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(help="Jobs to run in parallel, one per core.", show_default="all cores"),
    ] = None,
    direct: Annotated[
        bool,
        typer.Option("--direct", help="Also train the control that answers directly; takes longer."),
    ] = False,
    streams: Annotated[
        bool,
        typer.Option(
            "--streams",
            help="Also train a model with six perception streams; reported separately, takes longer.",
        ),
    ] = False,
) -> None:
    """Train and evaluate the small Perceptio model and its controls, and write a report.

    The same command reuses what is complete and continues after an interruption; results of other settings are made
    again. Takes about 14 minutes on 2 cores.
    """
    from perceptio.demo.pipeline import run_demo
    from perceptio.demo.settings import DemoSettings
    from perceptio.experiments.display import Bars, Display, Lines

    given = {"scenes": scenes, "steps": steps, "cores": cores}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    settings = DemoSettings(out=out, seed=seed, direct=direct, streams=streams, **chosen)
    shown = console_of_jobs()
    display: Display = Bars(shown) if shown.is_terminal else Lines(partial(say_when, shown))
    result = run_demo(settings, display, fresh=fresh)
    shown.print(_table(result.metrics))
    say(shown, f"Report: {result.report}")


def _against_the_strongest(metrics: dict[str, Any]) -> str:
    """Describe in a line the paired difference to the strongest control that has learned."""
    from perceptio.demo.results import NAMES, Demo

    strongest = Demo(root=Path(), metrics=metrics).strongest
    if strongest is None:
        return "No control has learned to answer.\n"
    found = metrics["paired"][f"perceptio_minus_{strongest}"]
    low, high = found["interval"]
    return (
        f"Perceptio against {NAMES[strongest]}: {100 * found['difference']:+.1f} points on the same questions "
        f"({100 * low:+.1f} to {100 * high:+.1f})\n"
    )


def _table(metrics: dict[str, Any]) -> "Table":
    from rich.table import Table

    from perceptio.demo.results import COMPARED, NAMES

    table = Table(title="Which marked point is closest? Right answers on test scenes", title_justify="left")
    table.add_column("arm")
    for column in ("3 points", "4 points", "5 points", "mean", "95% interval", "minutes"):
        table.add_column(column, justify="right")
    for arm in COMPARED:
        if arm not in metrics:
            continue
        found = metrics[arm]["relative_depth"]
        shares = [
            f"{100 * found[points]:.1f}%" if points in found else "–" for points in ("3", "4", "5", "mean")
        ]
        low, high = found["interval"]
        table.add_row(
            NAMES[arm], *shares, f"{100 * low:.1f}–{100 * high:.1f}%", f"{metrics['seconds'][arm] / 60:.1f}"
        )
    own = metrics["perceptio"]
    table.caption = _against_the_strongest(metrics) + (
        f"Perceptio given true codes {100 * own['oracle_codes']['mean']:.1f}%, another scene's "
        f"{100 * own['shuffled_codes']['mean']:.1f}% · depth block AbsRel {own['depth_block']['absrel']:.3f}, "
        f"well-formed {100 * own['depth_block']['well_formed']:.0f}% · masks cIoU {own['referring']['ciou']:.3f}"
    )
    table.caption_justify = "left"
    return table
