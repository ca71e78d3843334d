"""`perceptio_1b` at its real sizes on real pictures, with random weights: two steps on a CPU, and an answer.

    python benchmarks/real/large_model.py --data DIR --out FILE

DIR is a data folder with masks and depth, such as `whole_way.py` imports. It proves sizes, not quality: every part is
as large as in the paper's composition at 1B, the pictures are those of 3,328 tokens, twelve tiles and the whole, and
the text tokenizer is one of bytes. Training goes through the command's own path, saves, and the saved model is loaded
and asked.

The peak of memory is that of the process. So that it is the memory of tensors that are in use, and not also of those
that were, glibc is told to give freed tensors back to the system at once, which it else does above 32 MiB.
"""

import argparse
import ctypes
import json
import resource
import shutil
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
from perceptio.data.folder.dataset_info import INFO_FILE
from perceptio.data.folder.records import LINES_FILE
from perceptio.ops.weights import CHECKPOINT, WEIGHTS
from perceptio.recipe import DataFolder, Recipe, TokenizerTraining
from perceptio.settings import load_recipe
from perceptio.training.foretold import foretell
from perceptio.training.memory import GIB, LIBRARIES
from perceptio.training.trainer import train

CODEBOOK_STEPS = 30
TOKENS = 3328
"""Of the pictures that are trained on and asked about."""
M_MMAP_THRESHOLD = -3
"""Of glibc's `mallopt`."""


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


def give_back_at_once() -> None:
    """Have the memory of freed tensors above 64 KiB go back to the system at once, where glibc allots it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**16)


def largest_pictures(data: Path, folder: Path) -> Path:
    """A copy of a data folder with the samples whose pictures take the most tokens."""
    vision = load_recipe("perceptio_1b").vision
    dataset = FolderDataset(data)
    sizes = (dataset.image(number).shape[-2:] for number in range(len(dataset)))
    kept = [number for number, size in enumerate(sizes) if vision.num_features(*size) == TOKENS]
    shutil.copytree(data, folder)
    lines = (data / LINES_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / LINES_FILE).write_text("".join(lines[number] for number in kept), encoding="utf-8")
    info = json.loads((data / INFO_FILE).read_text(encoding="utf-8"))
    info["roots"] = {name: str((data / root).resolve()) for name, root in info.get("roots", {}).items()}
    (folder / INFO_FILE).write_text(json.dumps(info), encoding="utf-8")
    return folder


def peak_gib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(data: Path, folder: Path) -> dict[str, Any]:
    """Train, save, load, ask; what each took."""
    recipe = the_recipe(largest_pictures(data, folder / "pictures"))
    dataset = FolderDataset(recipe.data.folders[0].path)
    image_3HW = dataset[0].image_3HW
    step = foretell(recipe)
    started, losses = time.monotonic(), []
    train(recipe, folder / "run", progress=lambda now: losses.append(dict(now.metrics)))
    found: dict[str, Any] = {
        "tokens_of_a_picture": recipe.vision.num_features(*image_3HW.shape[-2:]),
        "foretold": {
            "held_gib": step.held / GIB,
            "peak_gib": step.peak / GIB,
            "tokens": step.lengths,
            "with_python_and_libraries_gib": (step.peak + LIBRARIES) / GIB,
        },
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
    give_back_at_once()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=chosen.out.parent) as held:
        found = measure(chosen.data.resolve(), Path(held))
    chosen.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
