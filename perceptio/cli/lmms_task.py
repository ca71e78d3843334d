"""`perceptio data lmms-task`: a data folder as a task of lmms-eval."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import console, say
from perceptio.cli.files import path


def run(
    folder: Annotated[
        Path, typer.Argument(parser=path, metavar="DIR", help="A data folder with referring expressions.")
    ],
    out: Annotated[Path, typer.Option(parser=path, help="The folder for lmms-eval's --include_path.")],
    name: Annotated[
        str | None, typer.Option(help="What --tasks calls it.", show_default="the folder's name, with _masks")
    ] = None,
) -> None:
    """Write a referring segmentation task that lmms-eval asks of any model, and scores by masks."""
    from perceptio.harness.refcoco_task import write_task

    called = name or f"{folder.resolve().name}_masks"
    count = write_task(folder, out, called)
    say(
        console(),
        f"{count} questions. Try: python -m lmms_eval --include_path {out} --tasks {called} --model …",
    )
