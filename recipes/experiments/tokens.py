"""The effect of how depth is written: one factor of the depth tokens at a time, with look-up answers.

Grids other than that of the vision features have no auxiliary cell codes, so they have a baseline of their own,
`grid=10x10, no cell codes`. Each step writes a row of the grid unless a name says otherwise. Coarse-to-fine codes and
continuous tokens are left out, because they have no single grid for look-ups. It trains on the scenes that
`perceptio demo` creates:

    perceptio ablate experiments/tokens --data runs/demo/scenes/test
"""

from collections.abc import Mapping
from typing import Any

import attrs

from perceptio.experiments.grid import with_all
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe

BASELINE = "vqvae, 128 codes, 10x10, a row a step"


def variants() -> Mapping[str, Recipe]:
    """Return the tokens of the small Perceptio, and variants that differ from them in one factor."""
    base = load_recipe("perceptio_lookup.py", beside=__file__)
    tokenizer: Any = base.stream("depth").tokenizer
    lattice = load_recipe("fsq_depth.py", beside=__file__).stream("depth").tokenizer
    segmentation, depth = base.streams
    bare = attrs.evolve(
        base,
        heads={},
        losses=tuple(one for one in base.losses if not isinstance(one.loss, CellCodesConfig)),
        data=attrs.evolve(base.data, vision_only=0.0),
    )
    return {
        BASELINE: base,
        "fsq": base.with_stream("depth", tokenizer=lattice),
        **{
            f"codebook={size}": base.with_stream(
                "depth", tokenizer=attrs.evolve(tokenizer, codebook_size=size)
            )
            for size in (32, 512)
        },
        "codes_per_step=1": base.with_stream("depth", codes_per_step=1),
        "codes_per_step=100": base.with_stream("depth", codes_per_step=100),
        "depth first": attrs.evolve(base, streams=(depth, segmentation)),
        "grid=10x10, no cell codes": bare,
        **{
            f"grid={side}x{side}, no cell codes": bare.with_stream(
                "depth",
                tokenizer=attrs.evolve(tokenizer, grid=(side, side), widths=widths),
                codes_per_step=side,
            )
            for side, widths in ((5, (16, 32, 64, 64)), (20, (32, 64)))
        },
    }


def tiny() -> Mapping[str, Recipe]:
    """Return the same cells with four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
