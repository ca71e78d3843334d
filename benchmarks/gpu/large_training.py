"""Optimizer steps of a recipe with random weights: how much memory they need beside what was foretold.

    python benchmarks/gpu/large_training.py --recipe perceptio_1b --out FILE [--rehearse]

Everything is as in `perceptio train perceptio_1b` or `perceptio_135m`, but for the weights, which are random where
they would be read from the hub; the text tokenizer, which is one of bytes under a vocabulary of the real size; scenes
as data; and one micro step per optimizer step where the recipes have many. Nothing is read from a network. A
rehearsal takes the recipe's twin of CPU size.
"""

import json
import statistics
import sys
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import torch
from steps import EnoughError, run_step, with_data

from perceptio.backbones.language.hf_text import BYTES
from perceptio.model.perception_model import build_model
from perceptio.ops.attention import chosen_path
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe
from perceptio.training.memory import GIB, MemoryPlan
from perceptio.training.trainer import Progress, train

RECIPES = ("perceptio_1b", "perceptio_135m")
STEPS = {False: 20, True: 2}
TASKS = {"referring", "relative_depth", "depth_map"}
SIDE = {False: 448, True: 32}
"""Of a scene, in pixels: one tile of InternViT."""


def with_random_weights(recipe: Recipe) -> Recipe:
    """The recipe without weights, with the library's own text tokenizer, and with the tasks that scenes have."""
    language: Any = recipe.language
    tasks = {task: share for task, share in recipe.data.mixture.items() if task in TASKS}
    return attrs.evolve(
        recipe,
        language=attrs.evolve(language, weights=None, text_tokenizer_files=str(BYTES)),
        data=attrs.evolve(recipe.data, mixture=tasks),
        train=attrs.evolve(recipe.train, save_pretrained_weights=True),
        vision=_without_weights(recipe.vision),
        vision_head=_without_weights(recipe.vision_head),
        streams=tuple(
            attrs.evolve(stream, tokenizer=_without_weights(stream.tokenizer)) for stream in recipe.streams
        ),
    )


def measure(device: torch.device, rehearse: bool, name: str) -> dict[str, Any]:
    """Train for a few steps, saving nothing."""
    recipe = with_random_weights(load_recipe(f"{name}:tiny" if rehearse else name))
    steps = STEPS[rehearse]
    training = attrs.evolve(
        recipe.train,
        steps=steps + 1,
        grad_accumulation=1,
        warmup_steps=2,
        log_every=1,
        save_every=steps + 1,
    )
    recipe = attrs.evolve(recipe, train=training)
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        recipe = with_data(recipe, folder, device, count=16, size=SIDE[rehearse], tokenizer_steps=100)
        described = build_model(recipe, device="meta")
        foretold = MemoryPlan.of(described, training)
        records: list[Progress] = []

        def progress(now: Progress) -> None:
            records.append(now)
            if now.step == steps:
                raise EnoughError

        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with suppress(EnoughError):
            train(recipe, folder / "run", progress=progress)
    metrics = [record.metrics for record in records]
    (memory,) = [name for name in metrics[0] if name.startswith("peak_")]
    peak = max(one[memory] for one in metrics)
    # Of a training so far, each record has the mean time of a step: what the later ones took is their difference.
    totals = [record.seconds * record.step for record in records]
    times = [after - before for before, after in pairwise(totals)]
    found = {
        "steps": len(records),
        "conversations_per_step": training.micro_batch_size,
        "parameters": sum(p.numel() for p in described.parameters()),
        "foretold_gib": {
            name: getattr(foretold, name) / GIB for name in ("weights", "gradients", "optimizer")
        },
        "foretold_training_gib": foretold.training / GIB,
        "measured": memory,
        "peak_gib": peak,
        "seconds_per_step": statistics.median(times),
        "losses": [one["loss"] for one in metrics],
        "attention": chosen_path(device.type, torch.bfloat16, head_width(recipe)),
    }
    found["summary"] = (
        f"{found['steps']} steps; {memory} {peak:.2f}, foretold without activations "
        f"{found['foretold_training_gib']:.2f}; {found['seconds_per_step']:.2f} s a step of "
        f"{training.micro_batch_size}; attention on {found['attention']}; loss {found['losses'][0]:.2f} to "
        f"{found['losses'][-1]:.2f}"
    )
    return found


def head_width(recipe: Recipe) -> int:
    """Of the language model's attention."""
    language: Any = recipe.language
    settings = json.loads(language.model)
    return int(settings["hidden_size"] // settings["num_attention_heads"])


def _without_weights(config: Any) -> Any:
    return attrs.evolve(config, weights=None)


if __name__ == "__main__":
    sys.exit(run_step(measure, RECIPES)["steps"] == 0)
