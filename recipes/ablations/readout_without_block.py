"""The *read-out without a block* control of look-up answers: the same values, written straight from the image.

Its levels and its lessons are those of `perceptio_lookup`; the depth block is a task of its own, after every answer.
It separates what a map gives that is written and looked up from what saying its values gives.

Its settings had the same three trials on validation scenes as Perceptio's; here the weight of text of
`perceptio_tiny` came out best: 12 lessons 87.5%, with twice the weight of text 86.0%, 6 lessons 84.2% (seed 0).
"""

import attrs

from perceptio.recipe import PointValues, Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """The small Perceptio, saying the values of points without having written the map."""
    base = load_recipe("perceptio_lookup.py", beside=__file__)
    return attrs.evolve(
        base,
        name="readout-without-block",
        answer_format="readout",
        point_values=PointValues(),
        losses=load_recipe("perceptio_tiny.py", beside=__file__).losses,
        data=attrs.evolve(base.data, perceive="separate_task"),
    )
