"""The *read-out without a block* control of look-up answers: the model writes the same values directly.

Its levels and lessons are those of `perceptio_lookup`. The depth block is a separate task after every answer. This
control separates the effect of writing a map and looking it up from the effect of writing its values.

Its settings had the same three trials on validation scenes as Perceptio's. Here the weight of text of
`perceptio_tiny` was best: 12 lessons 87.5%, 12 lessons with twice the weight of text 86.0%, 6 lessons 84.2% (seed 0).
"""

import attrs

from perceptio.recipe import PointValues, Recipe
from perceptio.settings import load_recipe


def recipe() -> Recipe:
    """Return the small Perceptio that writes the values of points without having written the map."""
    base = load_recipe("perceptio_lookup.py", beside=__file__)
    return attrs.evolve(
        base,
        name="readout-without-block",
        answer_format="readout",
        point_values=PointValues(),
        losses=load_recipe("perceptio_tiny.py", beside=__file__).losses,
        data=attrs.evolve(base.data, perceive="separate_task"),
    )
