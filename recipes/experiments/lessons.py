"""The effect of our additions to the paper: text-only lessons, and fast rotations of the position embedding.

It trains on the scenes that `perceptio demo` creates:

    perceptio ablate experiments/lessons --data runs/demo/scenes/test
"""

from collections.abc import Mapping

from perceptio.experiments.grid import with_all
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe, with_settings

BASELINE = "12 lessons of comparing"
CHANGES = {
    "3 lessons of comparing": {"data.text_only_comparison": 3.0},
    "no lessons of comparing": {"data.text_only_comparison": 0.0},
    "no lessons of reading": {"data.text_only_readout": 0.0},
    "no lessons": {"data.text_only_comparison": 0.0, "data.text_only_readout": 0.0},
    "ordinary rotations": {"language.rope_fastest": 1.0},
}


def variants() -> Mapping[str, Recipe]:
    """Return the small Perceptio with look-up answers, and variants without some of our additions."""
    base = load_recipe("perceptio_lookup.py", beside=__file__)
    return {BASELINE: base} | {name: with_settings(base, changed) for name, changed in CHANGES.items()}


def tiny() -> Mapping[str, Recipe]:
    """Return the same cells with four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
