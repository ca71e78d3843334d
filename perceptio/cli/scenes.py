"""`perceptio scenes`: write a data folder of generated scenes."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import Bars, console, say
from perceptio.cli.files import path
from perceptio.ops.wording import number_of


class Purpose(StrEnum):
    """The splits of `perceptio.data.scenes.Split`, repeated here so that `--help` need not import it."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


def run(
    out: Annotated[Path, typer.Option(parser=path, help="The folder to write; it must not exist.")],
    count: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 8000,
    split: Annotated[
        Purpose, typer.Option(help="Split to generate; no two splits share a scene.")
    ] = Purpose.TRAIN,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed within the split; each seed has scenes of its own.")
    ] = 0,
    size: Annotated[int, typer.Option(min=32, max=4096, help="Width and height in pixels.")] = 80,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes.", show_default="one per core")
    ] = None,
) -> None:
    """Generate 3-D scenes with exact depth, normals, edges and masks, and questions and answers about them."""
    from perceptio.data.folder import write_folder
    from perceptio.data.scenes import SceneSet, Split

    entries = SceneSet(split=Split(split.value), base=seed, count=count, size=size)
    shown = console()
    with Bars(shown) as bar:
        task = bar.add_task("scenes", total=count)
        write_folder(
            out,
            entries,
            info=entries.info,
            workers=workers or os.cpu_count() or 1,
            progress=lambda done: bar.update(task, completed=done),
        )
    say(shown, f"{number_of(count, 'scene')} in {out}.")
