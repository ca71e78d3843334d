"""`perceptio data`: work on folders of data."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import Bars, console, say
from perceptio.cli.files import path
from perceptio.cli.recipe import ArgOption, SetOption, chosen_recipe


def check(
    folder: Annotated[
        Path,
        typer.Argument(parser=path, metavar="DIR", help="A folder in the format of perceptio.data.folder."),
    ],
    recipe: Annotated[
        str | None, typer.Option(help="Name samples that are too long for a recipe's language model, too.")
    ] = None,
    arg: ArgOption = None,
    set_: SetOption = None,
) -> None:
    """Say what is wrong in a folder of data, file by file; exit status 1 if anything is."""
    from perceptio.data.folder.check import check_folder

    chosen = None if recipe is None else chosen_recipe(recipe, arg, set_)
    shown = console()
    with Bars(shown, transient=True) as bar:
        task = bar.add_task(f"reading {folder}", total=None)
        report = check_folder(folder, lambda done: bar.update(task, completed=done), recipe=chosen)
    for problem in report.problems:
        say(shown, str(problem))
    counts = f"{report.samples} samples with {report.turns} turns"
    if report.problems:
        say(shown, f"{counts}; {len(report.problems)} problem(s), listed above.")
        raise typer.Exit(1)
    say(shown, f"{counts}; nothing is wrong.")
