"""Perceptio on InternVL2.5-1B; all else is as in perceptio_8b.py."""

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """The paper's composition at 1B."""
    return load_recipe("perceptio_8b.py", beside=__file__, size="1b")


def tiny() -> Recipe:
    """The same at sizes for a CPU."""
    return load_recipe("perceptio_8b.py:tiny", beside=__file__, size="1b")
