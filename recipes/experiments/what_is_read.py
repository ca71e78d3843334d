"""What is read of the depth block: the small Perceptio, asked again with other codes in place of its own.

Look-up answers are given what the block decodes to at the marked points; read-out answers follow the codes as they
are. What is put in their place is told by `--controls`. It trains on the scenes that `perceptio demo` makes:

    perceptio ablate experiments/what_is_read --data runs/demo/scenes/test --controls all
"""

from collections.abc import Mapping

from perceptio.experiments.grid import with_all
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe

BASELINE = "lookup"


def variants() -> Mapping[str, Recipe]:
    """Both ways of answering from a block, as `what_perceiving_buys` trains them with 1,000 labelled images."""
    return {
        BASELINE: load_recipe("perceptio_lookup.py", beside=__file__),
        "codes_read_out": load_recipe("ablations/codes_read_out.py", beside=__file__),
    }


def tiny() -> Mapping[str, Recipe]:
    """The same, four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
