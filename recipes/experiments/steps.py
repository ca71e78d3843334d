"""How long to train: three ways of answering which marked point is closest, after 260, 520 and 1,040 steps.

Each number of steps is a training of its own, with its own schedule of learning rates. What is chosen by their answers
is chosen on validation scenes; the training scenes are those that `perceptio demo` makes:

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
    """Every way with every number of steps, and 1,000 labelled images."""
    recipes = {way: load_recipe(file, beside=__file__) for way, file in WAYS.items()}
    return {
        f"{way}, {steps} steps": with_settings(recipe, {"train.steps": steps})
        for way, recipe in recipes.items()
        for steps in STEPS
    }


def tiny() -> Mapping[str, Recipe]:
    """The same, four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
