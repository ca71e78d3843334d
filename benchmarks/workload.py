"""What the benchmarks measure on: the small model of the demo, and conversations as its training draws them."""

import runpy
import tempfile
from pathlib import Path

import attrs
import torch

from perceptio.data.conversations import ConversationSampler
from perceptio.data.folder import FolderDataset, write_folder
from perceptio.data.scenes import SceneSet, Split
from perceptio.interfaces import Sample
from perceptio.recipe import Recipe

LONG_LENGTHS = (900, 150, 300, 250)
"""Four unequal samples, as long as answers about several high-resolution tiles are."""


def demo_recipe(quick: bool) -> Recipe:
    """The recipe of `make demo`, whose weights stay random: time does not depend on them.

    Args:
        quick: One narrow layer and two rows of depth codes instead, for a run that only sees whether things work.
    """
    path = Path(__file__).parents[1] / "recipes" / "perceptio_tiny.py"
    recipe = runpy.run_path(str(path))["recipe"]()
    if not quick:
        return recipe
    language = attrs.evolve(recipe.language, hidden_dim=32, num_layers=1)
    rows = attrs.evolve(recipe.stream("depth").tokenizer, grid=(2, 10), image_size=(16, 80))
    return attrs.evolve(recipe.with_stream("depth", tokenizer=rows), language=language)


def demo_conversations(recipe: Recipe, count: int) -> list[Sample]:
    """What one training step sees: `count` conversations about scenes, and their text-only read-outs.

    The depth codes are drawn at random: time does not depend on them either.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_folder(
            Path(folder) / "scenes", SceneSet(split=Split.TRAIN, count=2 * count), info=SceneSet.info
        )
        dataset = FolderDataset(Path(folder) / "scenes")
        block = recipe.plan.readout_block
        codes_nL = torch.randint(block.codebooks[0].size, (len(dataset), block.length))
        return ConversationSampler(recipe, [dataset], {"depth": [codes_nL]}).draw(0, count)


def lengths_of(total: tuple[int, ...], quick: bool) -> tuple[int, ...]:
    """The lengths, or a tenth of them in a quick run."""
    return tuple(length // 10 for length in total) if quick else total
