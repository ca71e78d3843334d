"""The *direct* control: everything Perceptio is taught, depth maps and masks included, but answers come at once.

The depth block is a task of its own, after every answer, so that no answer can read it. Architecture, data, steps and
weights of losses are the small Perceptio's.
"""

import attrs

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """The small Perceptio, answering without perceiving first."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    return attrs.evolve(
        base,
        name="direct",
        answer_format="direct",
        data=attrs.evolve(
            base.data, perceive="separate_task", text_only_readout=0.0, text_only_comparison=0.0
        ),
    )
