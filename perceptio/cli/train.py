"""`perceptio train`: train a recipe into a run's folder."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perceptio.cli.console import Bars, again, command, console, say
from perceptio.cli.files import path
from perceptio.cli.recipe import ArgOption, RecipeArgument, SetOption, chosen_recipe
from perceptio.cli.tracking import TrackOption

if TYPE_CHECKING:
    from rich.progress import TaskID

    from perceptio.training.trainer import Progress as Step

SHOWN = {
    "loss": "loss",
    "next_token.text_accuracy": "text_accuracy",
    "*_token.code_accuracy": "{stream} code_accuracy",
    "*_dice.mask_iou": "{stream} mask_iou",
    "*_matched_masks.mask_iou": "{stream} mask_iou",
    "validation.loss": "validation loss",
}
"""Metrics shown below the bars, with their labels; `*` matches the name of any stream."""


def run(
    recipe: RecipeArgument,
    out: Annotated[
        Path,
        typer.Option(parser=path, help="Folder of the run, for checkpoint/, metrics.jsonl and tensorboard/."),
    ],
    arg: ArgOption = None,
    set_: SetOption = None,
    track: TrackOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the folder's checkpoint, which must exist.")
    ] = False,
    auto_resume: Annotated[
        bool,
        typer.Option(
            "--auto-resume",
            help="Continue if the folder has a checkpoint, otherwise start: for job scripts.",
        ),
    ] = False,
) -> None:
    """Train a recipe. Ctrl-C or SIGTERM saves a checkpoint, from which --resume continues bit for bit."""
    from perceptio.errors import DataError
    from perceptio.ops.files import path_text
    from perceptio.ops.interrupts import Stopped
    from perceptio.ops.ranks import leave_together
    from perceptio.training.trainer import train

    chosen = chosen_recipe(recipe, arg, set_)
    if path_text(out) != str(out):
        raise DataError(f"{out} is not UTF-8, and TensorBoard writes nowhere else: choose another --out.")
    shown = console()
    shown.quiet = os.environ.get("RANK", "0") != "0"  # Only the first of several processes prints.
    with Bars(shown) as bars:
        running = _Training(bars, chosen.name)
        try:
            train(
                chosen,
                out,
                resume="auto" if auto_resume else resume,
                progress=running.step,
                preparing=running.preparing,
                say=lambda sentence: say(shown, sentence),
                track=track,
            )
        except Stopped:
            given = (*again("--arg", arg), *again("--set", set_), *again("--track", track))
            say(shown, f"Stopped. To go on: {command('train', recipe, *given, '--out', out, '--resume')}")
            raise
    leave_together()
    evaluate, ask = command("eval", out, "--data", "FOLDER"), command("ask", out, "IMAGE", "QUESTION")
    say(shown, f"Trained. Try: {evaluate}, or {ask}.")


class _Training:
    """A bar for the steps of a training, and one for each preparation before them."""

    def __init__(self, bars: Bars, name: str) -> None:
        self.bars, self.name = bars, name
        self.tasks: dict[str, TaskID] = {}

    def step(self, now: "Step") -> None:
        values = list(_shown(now.metrics))
        self._update(self.name, now.step, now.steps, {"note": "  ".join(values)} if values else {})

    def preparing(self, what: str, done: int, total: int) -> None:
        self._update(what, done, total, {})

    def _update(self, what: str, done: int, total: int, fields: Mapping[str, str]) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=total)
        self.bars.update(self.tasks[what], completed=done, total=total, **fields)


def _shown(metrics: Mapping[str, float]) -> Iterator[str]:
    """Yield the metrics of a step to show, in the order of `SHOWN`."""
    for pattern, label in SHOWN.items():
        _, star, after = pattern.partition("*")
        for name, value in metrics.items():
            if name == pattern:
                yield f"{label} {value:.3f}"
            elif star and name.endswith(after) and "." not in name.removesuffix(after):
                yield f"{label.format(stream=name.removesuffix(after))} {value:.3f}"
