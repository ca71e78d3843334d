"""What the model reads from the depth block: the small Perceptio, asked again with its codes replaced.

Look-up answers are given the decoded values of the block at the marked points; read-out answers follow its codes
directly. `--controls` selects the replacements. It trains on the scenes that `perceptio demo` creates:

    perceptio ablate experiments/what_is_read --data runs/demo/scenes/test --controls all
"""

from collections.abc import Mapping

from perceptio.experiments.grid import with_all
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe

BASELINE = "lookup"


def variants() -> Mapping[str, Recipe]:
    """Return both ways of answering from a block, trained as in `what_perceiving_buys` with 1,000 labeled images."""
    return {
        BASELINE: load_recipe("perceptio_lookup.py", beside=__file__),
        "codes_read_out": load_recipe("ablations/codes_read_out.py", beside=__file__),
    }


def tiny() -> Mapping[str, Recipe]:
    """Return the same cells with four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
