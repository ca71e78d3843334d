"""`perceptio report`: the tables and the page of an experiment."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import console, say
from perceptio.cli.files import path


def run(
    folder: Annotated[Path, typer.Argument(parser=path, metavar="DIR", help="The folder of an experiment.")],
    figures: Annotated[
        list[str] | None,
        typer.Option(
            help="A figure to show, such as relative_depth, depth_block.absrel or 'controls.*'; repeated.",
            show_default="those with an interval that every complete cell has",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=path, help="Where they go.", show_default="the experiment's folder")
    ] = None,
) -> None:
    """Write the table of an experiment, as Markdown, CSV, LaTeX and JSON, and report.html, as far as it is run."""
    from perceptio.experiments.outputs import write_outputs
    from perceptio.experiments.results import read

    for file in write_outputs(read(folder), out or folder, figures):
        say(console(), str(file))
