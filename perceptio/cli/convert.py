"""`perceptio convert`: convert weights of other projects into checkpoints of this library."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from perceptio.cli.console import console, say
from perceptio.cli.files import check_free, path
from perceptio.cli.recipe import ArgOption, SetOption, chosen_recipe


def aurora_vqvae(
    file: Annotated[
        Path, typer.Argument(parser=path, help="AURORA's depth VQ-VAE: a .pt file with its state dict.")
    ],
    out: Annotated[Path, typer.Option(parser=path, help="Folder for the depth tokenizer.")],
) -> None:
    """Convert AURORA's depth VQ-VAE into a depth tokenizer: near is one, with the same codes and maps as AURORA's."""
    from perceptio.convert.aurora import convert_aurora_vqvae

    check_free(out)
    spec = convert_aurora_vqvae(file, out).spec
    (rows, columns), (height, width) = spec.grid, spec.image_size
    say(
        console(),
        f"{spec.codebook_size} codes, {rows}x{columns} of them for {height}x{width} pixels. Written to {out}. "
        f"Use it: --set {quote(f'streams.depth.tokenizer.weights={out}')}",
    )


def sa2va(
    folder: Annotated[
        Path,
        typer.Argument(parser=path, help="A Hugging Face export of a Sa2VA model that is based on InternVL."),
    ],
    recipe: Annotated[
        str, typer.Option(help="A recipe file, or the name of a recipe that ships with the library.")
    ],
    out: Annotated[Path, typer.Option(parser=path, help="Folder for the checkpoint.")],
    arg: ArgOption = None,
    set_: SetOption = None,
) -> None:
    """Convert a Sa2VA model into a checkpoint of a recipe, for the parts that both have."""
    from collections import Counter

    from rich.table import Table

    from perceptio.convert.sa2va import REPORT_FILE, convert_sa2va

    check_free(out)
    report = convert_sa2va(folder, chosen_recipe(recipe, arg, set_), out)
    table = Table("tensors", "of", "count", box=None, pad_edge=False)
    for title, names, ours in (
        ("loaded", [name for places in report.loaded.values() for name in places], True),
        ("not in this recipe", list(report.not_in_recipe), False),
        ("not in the checkpoint", list(report.not_in_checkpoint), True),
    ):
        for part, count in Counter(_beginning(name, ours) for name in names).items():
            table.add_row(title, part, str(count))
    shown = console()
    shown.print(table)
    say(shown, f"Written to {out}; each tensor is listed in {out / REPORT_FILE}.")


def _beginning(name: str, ours: bool) -> str:
    """Return the beginning of a tensor's name that identifies its part, including the name of a stream."""
    return ".".join(name.split(".")[: 1 if ours and not name.startswith("streams.") else 3])
