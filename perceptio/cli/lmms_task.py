"""`perceptio data lmms-task`: write a data folder as a task of lmms-eval."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import console, say
from perceptio.cli.files import path
from perceptio.ops.wording import number_of


def run(
    folder: Annotated[
        Path, typer.Argument(parser=path, metavar="DIR", help="A data folder with referring expressions.")
    ],
    out: Annotated[Path, typer.Option(parser=path, help="Folder to pass to lmms-eval as --include_path.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the task for --tasks.", show_default="the folder's name plus _masks"),
    ] = None,
) -> None:
    """Write a referring segmentation task for lmms-eval, which can ask any model and scores its masks."""
    from perceptio.harness.refcoco_task import write_task

    called = name or f"{folder.resolve().name}_masks"
    count = write_task(folder, out, called)
    say(
        console(),
        f"{number_of(count, 'question')}. Try: python -m lmms_eval --include_path {out} --tasks {called} --model …",
    )
