"""`perceptio train`: a recipe into a run's folder."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import again, command, console, progress, say
from perceptio.cli.files import open_folder, path, writing
from perceptio.cli.recipe import ArgOption, RecipeArgument, SetOption, chosen_recipe


def run(
    recipe: RecipeArgument,
    out: Annotated[
        Path, typer.Option(parser=path, help="The run's folder: checkpoint/, metrics.jsonl, tensorboard/.")
    ],
    arg: ArgOption = None,
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
) -> None:
    """Train what a recipe describes. Ctrl-C leaves a checkpoint that --resume goes on from, to the bit."""
    from perceptio.errors import CheckpointError, DataError
    from perceptio.ops.files import path_text
    from perceptio.training import trainer

    chosen = chosen_recipe(recipe, arg, set_)
    if (out / trainer.CHECKPOINT).exists() and not resume:
        raise CheckpointError(
            f"{out} holds a checkpoint already; give --resume to go on, or choose another --out."
        )
    if path_text(out) != str(out):
        raise DataError(f"{out} is not UTF-8, and TensorBoard writes nowhere else: choose another --out.")
    open_folder(out)
    open_folder(out / trainer.CHECKPOINT, replacing=True)
    shown = console()
    with progress(shown, "shown") as bar:
        task = bar.add_task(chosen.name, total=chosen.train.steps, shown="")

        def show(now: trainer.Progress) -> None:
            bar.update(task, completed=now.step)
            if now.metrics:
                keys = ("loss", "next_token.text_accuracy", "depth_token.code_accuracy", "dice.mask_iou")
                values = [
                    f"{key.split('.')[-1]} {now.metrics[key]:.3f}" for key in keys if key in now.metrics
                ]
                bar.update(task, shown="  ".join(values))

        try:
            with writing(out):
                trainer.train(chosen, out, resume=resume, progress=show)
        except KeyboardInterrupt:
            given = (*again("--arg", arg), *again("--set", set_))
            say(shown, f"Stopped. To go on: {command('train', recipe, *given, '--out', out, '--resume')}")
            raise
        bar.update(task, completed=chosen.train.steps)
    evaluate, ask = command("eval", out, "--data", "FOLDER"), command("ask", out, "IMAGE", "QUESTION")
    say(shown, f"Trained. Try: {evaluate}, or {ask}.")
