"""How long to train: three ways of answering which marked point is closest, after 260, 520 and 1,040 steps.

Each number of steps is a separate training run with its own learning rate schedule. Choices based on these answers
are made on validation scenes; the training scenes are those that `perceptio demo` creates:

    perceptio scenes --out runs/demo/scenes/validation --split validation --count 250
    perceptio ablate experiments/steps --data runs/demo/scenes/validation
"""

from collections.abc import Mapping

from perceptio.experiments.grid import with_all
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe, with_settings

BASELINE = "readout_without_block, 520 steps"
STEPS = (260, 520, 1040)
WAYS = {
    "lookup": "perceptio_lookup",
    "lookup_from_vision": "ablations/lookup_from_vision",
    "readout_without_block": "ablations/readout_without_block",
}


def variants() -> Mapping[str, Recipe]:
    """Return every way with every number of steps, on 1,000 labeled images."""
    recipes = {way: load_recipe(file, beside=__file__) for way, file in WAYS.items()}
    return {
        f"{way}, {steps} steps": with_settings(recipe, {"train.steps": steps})
        for way, recipe in recipes.items()
        for steps in STEPS
    }


def tiny() -> Mapping[str, Recipe]:
    """Return the same cells with four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
