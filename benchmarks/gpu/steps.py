"""What the steps of `make gpu` share: their command line, the device, and data to train on."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from perceptio.data.folder import write_folder
from perceptio.data.scenes import SceneSet, Split
from perceptio.model.checkpoints.checkpoint import save
from perceptio.recipe import DataFolder, Recipe, TokenizerTraining
from perceptio.training.target_maps import read_target_maps
from perceptio.training.tokenizer import train_tokenizer


class EnoughError(Exception):
    """Raised from a progress report to end a training that has shown what it should."""


def run_step(measure: Callable[..., dict[str, Any]], recipes: Sequence[str] = ()) -> dict[str, Any]:
    """A step's command line: measure on the GPU, or tiny on the CPU in a rehearsal, and write what was found.

    Args:
        measure: Given the device, whether this is a rehearsal, and the recipe's name where there are several; returns
            what to write. `summary` is for the table.
        recipes: Names of recipes that the step may be asked to measure.

    Returns:
        What was written.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="where the result is written, as JSON")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU")
    if recipes:
        parser.add_argument("--recipe", choices=recipes, required=True)
    chosen = parser.parse_args()
    asked = (chosen.recipe,) if recipes else ()
    found = measure(torch.device("cpu" if chosen.rehearse else "cuda"), chosen.rehearse, *asked)
    chosen.out.write_text(json.dumps(found), encoding="utf-8")
    print(found.get("summary", ""))
    return found


def with_data(
    recipe: Recipe, folder: Path, device: torch.device, *, count: int, size: int, tokenizer_steps: int
) -> Recipe:
    """The recipe with scenes to train on, and with a depth tokenizer that was trained on them for a moment.

    An untrained one gives every map the same code.

    Args:
        recipe: Names no data, and a depth tokenizer without weights.
        folder: Where scenes and tokenizer are written.
        device: Where the tokenizer is trained.
        count: How many scenes.
        size: Their side in pixels.
        tokenizer_steps: How long the tokenizer is trained.
    """
    config: Any = recipe.stream("depth").tokenizer
    write_folder(folder / "scenes", SceneSet(split=Split.TRAIN, count=count, size=size), info=SceneSet.info)
    settings = TokenizerTraining(steps=tokenizer_steps, batch_size=8, warmup_steps=tokenizer_steps // 10)
    torch.manual_seed(settings.seed)
    tokenizer = config.build()
    maps_NCHW = read_target_maps(folder / "scenes", tokenizer)
    train_tokenizer(tokenizer.to(device), maps_NCHW, settings)
    save(tokenizer, folder / "tokenizer", config=config)
    trained = attrs.evolve(config, weights=str(folder / "tokenizer"))
    return attrs.evolve(
        recipe.with_stream("depth", tokenizer=trained),
        data=attrs.evolve(recipe.data, folders=(DataFolder(path=str(folder / "scenes")),)),
    )
