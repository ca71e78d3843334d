"""Perceptio with the read-out of codes of `perceptio_tiny`, and as many lessons as look-up answers have.

It separates what the lessons of comparing give from what looking up the written map gives.
"""

import attrs

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """The small Perceptio with twelve lessons of comparing codes."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    return attrs.evolve(base, name="codes-read-out", data=attrs.evolve(base.data, text_only_comparison=12.0))
