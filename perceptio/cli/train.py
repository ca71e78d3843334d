"""`perceptio train`: a recipe into a run's folder."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.explain import RecipeArgument, SetOption, settings_of
from perceptio.cli.files import open_folder, writing


def run(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option(help="The run's folder: checkpoint/, metrics.jsonl, tensorboard/.")],
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
) -> None:
    """Train what a recipe describes. Ctrl-C leaves a checkpoint that --resume goes on from, to the bit."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from perceptio.errors import CheckpointError
    from perceptio.settings import load_recipe, with_settings
    from perceptio.training import trainer

    chosen = with_settings(load_recipe(recipe), settings_of(set_))
    if (out / trainer.CHECKPOINT).exists() and not resume:
        raise CheckpointError(
            f"{out} holds a checkpoint already; give --resume to go on, or choose another --out."
        )
    open_folder(out)
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[shown]}"), console=console) as bar:
        task = bar.add_task(chosen.name, total=chosen.train.steps, shown="")

        def show(progress: trainer.Progress) -> None:
            bar.update(task, completed=progress.step)
            if progress.metrics:
                shown = ("loss", "next_token.text_accuracy", "depth_token.code_accuracy", "dice.mask_iou")
                values = [
                    f"{key.split('.')[-1]} {progress.metrics[key]:.3f}"
                    for key in shown
                    if key in progress.metrics
                ]
                bar.update(task, shown="  ".join(values))

        try:
            with writing(out):
                trainer.train(chosen, out, resume=resume, progress=show)
        except KeyboardInterrupt:
            console.print(
                f"Stopped. To go on: perceptio train {recipe} --out {out} --resume (with the same --set)."
            )
            raise
        bar.update(task, completed=chosen.train.steps)
    console.print(f"Trained. Try: perceptio eval {out} --data FOLDER, or perceptio ask {out} IMAGE QUESTION.")
