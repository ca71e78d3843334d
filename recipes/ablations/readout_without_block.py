"""The *read-out without a block* control: thinking aloud without perceiving.

Marked points are read out before the answer as Perceptio does it, but straight from the image: the depth block is a
task of its own, after every answer. It separates what the block gives from what the chain of thought gives.
"""

import attrs

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """The small Perceptio, reading points out without having written the map."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    return attrs.evolve(
        base,
        name="readout-without-block",
        answer_format="readout",
        data=attrs.evolve(base.data, perceive="separate_task"),
    )
