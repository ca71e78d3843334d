"""The *read-out without a block* control of look-up answers: the same values, written straight from the image.

Its levels and its lessons are those of `perceptio_lookup`; the depth block is a task of its own, after every answer.
It separates what a map gives that is written and looked up from what saying its values gives.
"""

import attrs

from perceptio.recipe import PointValues, Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """The small Perceptio, saying the values of points without having written the map."""
    base = load_recipe("../perceptio_lookup.py", beside=__file__)
    return attrs.evolve(
        base,
        name="values-without-block",
        answer_format="readout",
        point_values=PointValues(),
        data=attrs.evolve(base.data, perceive="separate_task"),
    )
