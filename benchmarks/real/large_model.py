"""`perceptio_1b` at its real sizes on real pictures, with random weights: two steps on a CPU, and an answer.

    python benchmarks/real/large_model.py --data DIR --out FILE

DIR is a data folder with masks and depth, such as `whole_way.py` imports. It proves sizes, not quality: every part is
as large as in the paper's composition at 1B, a picture takes up to 3,328 tokens, and the text tokenizer is one of
bytes. Training goes through the command's own path, saves, and the saved model is loaded and asked.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "gpu"))
from large_training import with_random_weights

from perceptio import GenerationSettings, load
from perceptio.data.folder import FolderDataset
from perceptio.model.perception_model import build_model
from perceptio.ops.weights import CHECKPOINT, WEIGHTS
from perceptio.recipe import DataFolder, Recipe, TokenizerTraining
from perceptio.settings import load_recipe
from perceptio.training.memory import GIB, MemoryPlan
from perceptio.training.trainer import train

CODEBOOK_STEPS = 30


def the_recipe(data: Path) -> Recipe:
    """`perceptio_1b` without published weights, for two steps of one conversation of two questions."""
    recipe = with_random_weights(load_recipe("perceptio_1b"))
    # Long enough for maps to have codes of their own.
    codebook = TokenizerTraining(steps=CODEBOOK_STEPS, batch_size=4, warmup_steps=3)
    return attrs.evolve(
        recipe.with_stream("depth", training=codebook),
        data=attrs.evolve(
            recipe.data, folders=(DataFolder(path=str(data)),), mixture={"referring": 1.0}, turns=2
        ),
        train=attrs.evolve(
            recipe.train,
            steps=2,
            micro_batch_size=1,
            grad_accumulation=1,
            warmup_steps=1,
            log_every=1,
            save_every=2,
        ),
    )


def peak_gib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(data: Path, folder: Path) -> dict[str, Any]:
    """Train, save, load, ask; what each took."""
    recipe = the_recipe(data)
    described = build_model(recipe, device="meta")
    plan = MemoryPlan.of(described, recipe.train)
    dataset = FolderDataset(data)
    image_3HW = dataset[0].image_3HW
    before, started, losses = peak_gib(), time.monotonic(), []
    train(recipe, folder / "run", progress=lambda now: losses.append(dict(now.metrics)))
    found: dict[str, Any] = {
        "parameters": sum(p.numel() for p in described.parameters()),
        "tokens_of_the_first_picture": recipe.vision.num_features(*image_3HW.shape[-2:]),
        "before_gib": before,
        "foretold_without_activations_gib": plan.training / GIB,
        "peak_gib": peak_gib(),
        "train_s": time.monotonic() - started,
        "losses": [one["loss"] for one in losses],
    }
    print(json.dumps(found, indent=1), flush=True)
    weights = folder / "run" / CHECKPOINT / WEIGHTS
    started = time.monotonic(), time.process_time()
    with weights.open("rb", buffering=0) as opened:
        held = bytearray(2**24)
        while opened.readinto(held):
            pass
    found |= {"file_gib": weights.stat().st_size / GIB, "read_s": time.monotonic() - started[0]}
    started = time.monotonic(), time.process_time()
    model = load(folder / "run")
    found |= {
        "load_s": time.monotonic() - started[0],
        "load_processor_s": time.process_time() - started[1],
    }
    started = time.monotonic()
    answer = model.ask(
        image_3HW,
        dataset[0].turns[0].question,
        settings=GenerationSettings(force=("segmentation", "depth"), max_new_tokens=4),
    )
    found |= {
        "ask_s": time.monotonic() - started,
        "mask": list(answer["segmentation"][0].shape),
        "depth": list(answer["depth"].values_HW.shape),
        "tokens": len(answer.tokens),
    }
    return found


def main() -> int:
    """Measure in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    if not chosen.data.exists():
        print(f"skipped: there is no {chosen.data}, which --data names.")
        return 0
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=chosen.out.parent) as held:
        found = measure(chosen.data.resolve(), Path(held))
    chosen.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
