"""`perceptio import`: weights of other projects into checkpoints of this library."""

from pathlib import Path
from typing import Annotated

import typer


def aurora_vqvae(
    file: Annotated[Path, typer.Argument(help="AURORA's depth VQ-VAE: a .pt file with its state dict.")],
    out: Annotated[Path, typer.Option(help="The depth tokenizer's folder to write.")],
) -> None:
    """Turn AURORA's depth VQ-VAE into a depth tokenizer: near is one, codes and maps equal to theirs."""
    from rich.console import Console

    from perceptio.errors import CheckpointError
    from perceptio.importing.aurora import import_aurora_vqvae

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} is there already and is not empty: choose another --out, or remove it.")
    spec = import_aurora_vqvae(file, out).spec
    (rows, columns), (height, width) = spec.grid, spec.image_size
    Console(highlight=False).print(
        f"{spec.codebook_size} codes, {rows}x{columns} of them for {height}x{width} pixels. Written to {out}. "
        f"Use it: --set depth.weights={out}",
        soft_wrap=True,
    )
