"""`perceptio data`: work on folders of data."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder in the format of perceptio.data.folder.")
    ],
) -> None:
    """Say what is wrong in a folder of data, file by file; exit status 1 if anything is."""
    from rich.console import Console

    from perceptio.data.check import check_folder

    console = Console(highlight=False)
    with console.status(f"Reading {folder} …") as status:
        report = check_folder(folder, lambda done: status.update(f"Reading {folder} … {done} samples"))
    for problem in report.problems:
        console.print(str(problem), markup=False, soft_wrap=True)
    counts = f"{report.samples} samples with {report.turns} turns"
    if report.problems:
        console.print(f"{counts}; {len(report.problems)} problem(s), listed above.")
        raise typer.Exit(1)
    console.print(f"{counts}; nothing is wrong.")
