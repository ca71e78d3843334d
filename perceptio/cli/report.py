"""`perceptio report`: write the tables and the page of an experiment."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import console, say
from perceptio.cli.files import path
from perceptio.ops.wording import number_of


def run(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="The folder of an experiment; or its file, or the name of one that ships with the library, to "
            "report from the summaries beside the file.",
        ),
    ],
    figures: Annotated[
        list[str] | None,
        typer.Option(
            help="A figure to show, such as relative_depth, depth_block.absrel or 'controls.*'; may be repeated.",
            show_default="those with an interval in every complete cell",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            help="Folder for the tables and the page.",
            show_default="the experiment's folder, or runs/ablations/ plus the file's name",
        ),
    ] = None,
    save_summaries: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="FOLDER",
            help="Write a summary of every complete cell into this folder. A folder NAME.cells beside NAME.py makes "
            "these summaries stand in for the cells wherever the experiment is run.",
        ),
    ] = None,
) -> None:
    """Write an experiment's results so far as a table (Markdown, CSV, LaTeX, JSON) and a page, report.html."""
    from perceptio.errors import InputError
    from perceptio.experiments.experiment import load_experiment
    from perceptio.experiments.outputs import write_outputs
    from perceptio.experiments.results import read
    from perceptio.experiments.summaries import read_summaries, write_summaries

    folder = path(experiment)
    if folder.is_dir():
        result = read(folder)
    elif save_summaries is not None:
        raise InputError(
            f"{experiment} is no folder of an experiment, so that it has no cells to be summarized."
        )
    else:
        result = read_summaries(load_experiment(experiment))
        folder = Path("runs/ablations") / result.name
    for file in write_outputs(result, out or folder, figures):
        say(console(), str(file))
    if save_summaries is not None:
        written = write_summaries(folder, save_summaries)
        say(console(), f"{save_summaries}: summaries of {number_of(len(written), 'cell')}.")
