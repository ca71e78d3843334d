"""The small Perceptio with an FSQ depth tokenizer: a fixed lattice of 128 codes instead of a learned codebook."""

import attrs

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe
from perceptio.tokenizers.depth.fsq import FSQDepthConfig


def recipe() -> Recipe:
    """Return the small Perceptio with its VQ-VAE replaced by FSQ of the same sizes."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    learned = base.stream("depth").tokenizer
    sizes = {
        field.name: getattr(learned, field.name)
        for field in attrs.fields(FSQDepthConfig)
        if field.name != "levels"
    }
    fixed = FSQDepthConfig(levels=(8, 4, 4), **sizes)
    return attrs.evolve(base.with_stream("depth", tokenizer=fixed), name="fsq-depth")
