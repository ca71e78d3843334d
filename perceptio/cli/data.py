"""`perceptio data`: work with data folders."""

import os
from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import Bars, console, say
from perceptio.cli.files import path, writing
from perceptio.cli.recipe import ArgOption, SetOption, chosen_recipe, pairs
from perceptio.ops.wording import number_of


def import_(
    name: Annotated[
        str,
        typer.Argument(help="A source, such as refcoco, coco or llava; `perceptio components` lists all."),
    ],
    folder: Annotated[Path, typer.Argument(parser=path, help="Folder with the published files.")],
    out: Annotated[Path, typer.Option(parser=path, help="Data folder to write, or to continue.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of the source, such as split=val; may be repeated."
        ),
    ] = None,
    pictures: Annotated[
        str,
        typer.Option(
            help="path: leave image files where they are and record their paths; link: create hard links in OUT."
        ),
    ] = "path",
    depth: Annotated[
        Path | None,
        typer.Option(parser=path, metavar="DIR", help="A data folder with depth maps for the same images."),
    ] = None,
) -> None:
    """Turn a published data set into a data folder without copying images.

    The same command continues after an interruption. Whatever is left out is counted, with the reasons.
    """
    from perceptio.data.sources.importing import import_source
    from perceptio.interfaces import Kind
    from perceptio.registry import Registry
    from perceptio.settings import component_of_settings

    registry, shown = Registry.discover(), console()
    settings = {"folder": str(folder), **pairs("--set", set_, "split=val")}
    source = component_of_settings(Kind.SOURCE, name, settings, registry)
    with Bars(shown) as bar:
        progress = bar.counting(f"importing {name}")
        try:
            report = import_source(
                source,
                out,
                pictures=pictures,
                depth=depth,
                progress=progress,
                registry=registry,
            )
        except KeyboardInterrupt:
            say(shown, "Stopped. The same command goes on from here.")
            raise
    for why, held in report.left_out.items():
        more = ", …" if held.count > len(held.examples) else ""
        say(
            shown,
            f"Left out {number_of(held.count, 'time')}, because {why}: {', '.join(held.examples)}{more}.",
        )
    for note, count in report.notes.items():
        say(shown, f"Of {number_of(count, 'sample')} {note}.")
    turns = ", ".join(f"{count:,} {task}" for task, count in sorted(report.turns.items())) or "none"
    kept = f", {report.kept:,} of them from before" if report.kept else ""
    say(shown, f"{number_of(report.samples, 'sample')}{kept}; turns: {turns}. {report.folder}")


def check(
    folder: Annotated[
        Path,
        typer.Argument(parser=path, metavar="DIR", help="A folder in the format of perceptio.data.folder."),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(help="Also report samples that are too long for this recipe's language model."),
    ] = None,
    arg: ArgOption = None,
    set_: SetOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that read files.", show_default="one per processor"),
    ] = None,
) -> None:
    """Check a data folder and report problems file by file; exit status 1 if there are any."""
    from perceptio.data.folder.check import check_folder
    from perceptio.registry import HOW_TO_LOAD

    chosen = None if recipe is None else chosen_recipe(recipe, arg, set_)
    shown = console()
    with Bars(shown, transient=True) as bar:
        task = bar.add_task(f"reading {folder}", total=None)
        report = check_folder(
            folder,
            lambda done: bar.update(task, completed=done),
            recipe=chosen,
            jobs=jobs or os.cpu_count() or 1,
        )
    for problem in report.problems:
        say(shown, str(problem))
    for name, count in report.unchecked.items():
        say(
            shown,
            f"{number_of(count, 'turn')} of the task {name!r} not checked by its rules: no plugin that is loaded has "
            f"this task; {HOW_TO_LOAD}.",
        )
    counts = f"{number_of(report.samples, 'sample')} with {number_of(report.turns, 'turn')}"
    if report.problems:
        say(shown, f"{counts}; {number_of(len(report.problems), 'problem')}, listed above.")
        raise typer.Exit(1)
    say(shown, f"{counts}; nothing is wrong.")


def pack(
    folder: Annotated[
        Path,
        typer.Argument(parser=path, metavar="DIR", help="The data folder, or the address of a packed one."),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Destination: a new folder, or an address such as s3://bucket/name."
        ),
    ],
    shard_size: Annotated[
        int,
        typer.Option(
            min=1, metavar="MIB", help="Size in MiB at which a shard is closed and the next begins."
        ),
    ] = 1024,
) -> None:
    """Pack the files of a data folder into tar shards that allow random access from anywhere."""
    from perceptio.data.folder.pack import pack_folder

    shown = console()
    with Bars(shown) as bar:
        packed = pack_folder(
            folder,
            out,
            shard_size=shard_size * 2**20,
            progress=bar.counting(f"packing {folder}"),
        )
    say(
        shown,
        f"{number_of(packed.samples, 'sample')} with {number_of(packed.files, 'file')} in "
        f"{number_of(packed.shards, 'shard')} of {packed.size / 2**20:,.1f} MiB in all. {out}",
    )


def show(
    folder: Annotated[
        Path,
        typer.Argument(parser=path, metavar="DIR", help="The data folder, or the address of a packed one."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="FILE.html",
            help="The page to write.",
            show_default="DIR.html in the working directory",
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Also show lengths for this recipe's language model.")
    ] = None,
    arg: ArgOption = None,
    set_: SetOption = None,
) -> None:
    """Write an HTML page about a data folder: counts, distributions, and samples with masks, depth and turns."""
    from perceptio.data.show import FolderPage
    from perceptio.ops.files import new_file

    chosen = None if recipe is None else chosen_recipe(recipe, arg, set_)
    target, shown = out or Path(f"{folder.resolve().name}.html"), console()
    with Bars(shown, transient=True) as bar:
        about = FolderPage(folder, recipe=chosen, progress=bar.counting(f"reading {folder}"))
        html = about.html()
    with writing(target), new_file(target) as new:
        new.write_text(html, encoding="utf-8")
    say(shown, f"{number_of(len(about.dataset), 'sample')}. {target}")
