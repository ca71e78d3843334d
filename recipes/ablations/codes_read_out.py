"""Perceptio that reads out codes as in `perceptio_tiny`, with as many comparison lessons as look-up answers.

It separates the effect of the comparison lessons from the effect of looking up the written map.
"""

import attrs

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """Return the small Perceptio with twelve lessons of comparing codes."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    return attrs.evolve(base, name="codes-read-out", data=attrs.evolve(base.data, text_only_comparison=12.0))
