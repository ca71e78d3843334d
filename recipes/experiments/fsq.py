"""Does FSQ change the value of writing the depth map? Look-up answers with a learned codebook and with FSQ.

The control looks up the points on a map that the vision head predicts, in the same codes, and writes no tokens. Each
cell trains on the scenes that `perceptio demo` creates:

    perceptio ablate experiments/fsq --data runs/demo/scenes/test
"""

from collections.abc import Mapping

from perceptio.experiments.grid import with_all
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe

BASELINE = "lookup_from_vision, fsq"
WAYS = {"lookup": "perceptio_lookup", "lookup_from_vision": "ablations/lookup_from_vision"}


def variants() -> Mapping[str, Recipe]:
    """Return both ways of looking up points, each with a learned codebook and with FSQ."""
    lattice = load_recipe("fsq_depth.py", beside=__file__).stream("depth").tokenizer
    recipes = {way: load_recipe(file, beside=__file__) for way, file in WAYS.items()}
    with_fsq = {
        f"{way}, fsq": recipe.with_stream("depth", tokenizer=lattice) for way, recipe in recipes.items()
    }
    return {f"{way}, vqvae": recipe for way, recipe in recipes.items()} | with_fsq


def tiny() -> Mapping[str, Recipe]:
    """Return the same variants with four steps each."""
    return with_all(variants(), {"train.steps": 4, "train.warmup_steps": 1})
