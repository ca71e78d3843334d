"""What each loss is worth: the small Perceptio with look-up answers, and each of its losses but text left out.

The expected count is not among them: it describes blocks that are written one code a step.

It trains on the scenes that `perceptio demo` makes:

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
    """The whole, and each loss left out."""
    base = load_recipe("perceptio_lookup.py", beside=__file__)
    return {BASELINE: base} | leave_out(base, *LEFT_OUT)


def tiny() -> Mapping[str, Recipe]:
    """The same, four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
