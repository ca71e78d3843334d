"""The *direct* control: Perceptio's full supervision, including depth maps and masks, but answers come first.

The depth block is a separate task after every answer, so that no answer can read it. Architecture, data, steps and
loss weights are those of the small Perceptio.
"""

import attrs

from perceptio.recipe import Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """Return the small Perceptio that answers without perceiving first."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    return attrs.evolve(
        base,
        name="direct",
        answer_format="direct",
        data=attrs.evolve(
            base.data, perceive="separate_task", text_only_readout=0.0, text_only_comparison=0.0
        ),
    )
