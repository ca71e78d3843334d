"""The *look-up without tokens* control: the map that is looked up is predicted directly from the vision features.

The auxiliary head of `perceptio_lookup` predicts a code for each grid cell. The codes are decoded, looked up and
given to the model as there. The depth block is a separate task after every answer. This control separates the effect
of writing the map from the effect of having one.

Its settings had the same three trials on validation scenes as Perceptio's, and the same trial was best: 12 lessons
86.6%, 12 lessons with twice the weight of text 90.4%, 6 lessons 89.1% (seed 0).
"""

import attrs

from perceptio.recipe import PointValues, Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """Return the small Perceptio with look-ups on a map that is not written."""
    base = load_recipe("perceptio_lookup.py", beside=__file__)
    return attrs.evolve(
        base,
        name="lookup-from-vision",
        point_values=PointValues(source="vision_head", decoding="soft"),
        data=attrs.evolve(base.data, perceive="separate_task"),
    )
