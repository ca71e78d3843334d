"""Perceptio on InternVL2.5-1B; everything else is as in perceptio_8b.py."""

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """Return the paper's composition at 1B."""
    return load_recipe("perceptio_8b.py", beside=__file__, size="1b")


def tiny() -> Recipe:
    """Return the same recipe at sizes for a CPU."""
    return load_recipe("perceptio_8b.py:tiny", beside=__file__, size="1b")
