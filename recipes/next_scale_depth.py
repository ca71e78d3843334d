"""Perceptio whose depth is written coarse to fine, a scale at a step, as VAR (arXiv 2404.02905) writes pictures.

    perceptio explain next_scale_depth --arg size=1b
    perceptio train next_scale_depth --out runs/next_scale

All else is as in perceptio_8b.py; docs/published.md says what is ours.
"""

import attrs

from perceptio.recipe import Recipe, Stream
from perceptio.settings import load_recipe
from perceptio.tokenizers.depth.next_scale import NextScaleDepthConfig


def recipe(size: str = "8b") -> Recipe:
    """Perceptio with 1, 4, 16 and 64 codes of depth, each in one step.

    Args:
        size: Of InternVL2.5: "1b", "2b", "4b" or "8b".
    """
    base = load_recipe("perceptio_8b.py", beside=__file__, size=size)
    depth = NextScaleDepthConfig(
        coarser=((1, 1), (2, 2), (4, 4)),
        grid=(8, 8),
        image_size=(256, 256),
        weights="runs/next_scale_codebook",
    )
    return attrs.evolve(
        base,
        name=f"next-scale-depth-{size}",
        streams=(
            base.stream("segmentation"),
            Stream(name="depth", tokenizer=depth, codes_per_step="group"),
        ),
        # It speaks of blocks of which each code sees the one before.
        losses=tuple(one for one in base.losses if one.loss.name != "expected_count"),
    )


def tiny(size: str = "8b") -> Recipe:
    """The same parts and settings at sizes for a CPU, with random weights.

    Args:
        size: Of the InternVL2.5 whose kind of language model is taken.
    """
    paper = recipe(size)
    small = load_recipe("perceptio_8b.py:tiny", beside=__file__, size=size)
    depth = attrs.evolve(
        paper.stream("depth").tokenizer,
        codebook_size=16,
        coarser=((1, 1), (2, 2)),
        grid=(4, 4),
        image_size=(16, 16),
        widths=(4, 8),
        latent_dim=4,
        weights=None,
    )
    return attrs.evolve(
        small,
        name=f"{paper.name}-tiny",
        streams=(
            small.stream("segmentation"),
            attrs.evolve(paper.stream("depth"), tokenizer=depth),
        ),
        losses=paper.losses,
    )
