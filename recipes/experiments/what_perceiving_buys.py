"""What perceiving buys: five ways of answering which marked point is closest, with 100 to 4,000 labeled images.

All ways have the same supervision of depth and masks and the same number of steps. The settings of each are those of
its recipe, which were chosen with 1,000 labeled images. It trains on the scenes that `perceptio demo` creates:

    perceptio ablate experiments/what_perceiving_buys --data runs/demo/scenes/test
"""

from collections.abc import Mapping

from perceptio.experiments.grid import with_all
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe, with_settings

BASELINE = "readout_without_block, 1000 labels"
LABELS = (100, 300, 1000, 4000)
WAYS = {
    "lookup": "perceptio_lookup",
    "lookup_from_vision": "ablations/lookup_from_vision",
    "readout_without_block": "ablations/readout_without_block",
    "codes_read_out": "ablations/codes_read_out",
    "direct": "ablations/direct",
}


def variants() -> Mapping[str, Recipe]:
    """Return every way with every number of labeled images."""
    recipes = {way: load_recipe(file, beside=__file__) for way, file in WAYS.items()}
    return {
        f"{way}, {labels} labels": with_settings(recipe, {"data.max_questions": labels})
        for labels in LABELS
        for way, recipe in recipes.items()
    }


def tiny() -> Mapping[str, Recipe]:
    """Return the same cells with four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
