"""The effect of each loss: the small Perceptio with look-up answers, without one of its losses at a time.

The loss of text is always kept. The expected count is not tested, because it needs blocks with one code per step.

It trains on the scenes that `perceptio demo` creates:

    perceptio ablate experiments/losses --data runs/demo/scenes/test
"""

from collections.abc import Mapping

from perceptio.experiments.grid import leave_out, with_all
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe

BASELINE = "all losses"
LEFT_OUT = (
    "depth_marker",
    "depth_token",
    "depth_count",
    "depth_soft_reconstruction",
    "depth_cell_codes",
    "segmentation_mask_bce",
    "segmentation_dice",
)


def variants() -> Mapping[str, Recipe]:
    """Return the whole recipe, and variants without one loss each."""
    base = load_recipe("perceptio_lookup.py", beside=__file__)
    return {BASELINE: base} | leave_out(base, *LEFT_OUT)


def tiny() -> Mapping[str, Recipe]:
    """Return the same cells with four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
