"""Perceptio that writes depth coarse to fine, one scale per step, as VAR (arXiv 2404.02905) writes images.

    perceptio explain next_scale_depth --arg size=1b
    perceptio train next_scale_depth --out runs/next_scale

Everything else is as in perceptio_8b.py; docs/published.md says which numbers are ours.
"""

import attrs

from perceptio.recipe import Recipe, Stream
from perceptio.settings import load_recipe
from perceptio.tokenizers.depth.next_scale import NextScaleDepthConfig


def recipe(size: str = "8b") -> Recipe:
    """Return Perceptio with scales of 1, 4, 16 and 64 depth codes, each written in one step.

    Args:
        size: The size of InternVL2.5: "1b", "2b", "4b" or "8b".
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
        # This loss needs blocks in which each code attends to the one before.
        losses=tuple(one for one in base.losses if one.loss.name != "expected_count"),
    )


def tiny(size: str = "8b") -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights.

    Args:
        size: The InternVL2.5 whose type of language model is used.
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
