"""The whole way on real pictures: import, teacher pass, codebook, training, evaluation beside controls, a question.

    python benchmarks/real/whole_way.py --weights build/real/weights --pictures DIR --teacher FILE --out OUT

DIR holds COCO pictures with panoptic masks: `images/train2017`, `images/val2017` and `panoptic/panoptic_SPLIT.json`
with its folder of PNGs. FILE are METER's published weights for NYUv2 (`build_model_best_nyu_xxs`), read by the
example plugin. What is there of an earlier run is kept; training goes on where it was stopped. `OUT/results.json` has
the figures of the held-out pictures: of the trained model, of the same model that is shown the next picture in place
of the right one, and of one whose weights are random.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
from torch.nn import functional as F

from perceptio import PerceptionModel, load
from perceptio.data.folder import FolderDataset
from perceptio.data.folder.dataset import Sample
from perceptio.evaluation.evaluation import Evaluation
from perceptio.model.perception_model import build_model
from perceptio.ops.json_files import without_nan
from perceptio.settings import load_recipe

HERE = Path(__file__).parent
METER = HERE.parents[1] / "examples" / "plugin_meter" / "meter.py"
SPLITS = {"train": "varied", "val": "canonical"}
"""How questions are put in each."""


class NextPicture:
    """A data folder whose questions are asked about the next sample's picture, stretched to the right one's size."""

    def __init__(self, dataset: FolderDataset) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number: int) -> Sample:
        sample, other = self._dataset[number], self._dataset[(number + 1) % len(self)]
        shown = F.interpolate(
            other.image_3HW[None].float(), size=sample.image_3HW.shape[-2:], mode="bilinear"
        )[0]
        return attrs.evolve(sample, image_3HW=shown.to(sample.image_3HW.dtype))


def perceptio(*words: object) -> None:
    """Run a command of the library, which says itself what is wrong."""
    print("$ perceptio", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "perceptio.cli.main", *map(str, words)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def make_data(pictures: Path, teacher: Path, out: Path) -> None:
    """Data folders of both splits: objects with questions for their masks, depth, and marked points on that depth."""
    for split, phrasing in SPLITS.items():
        objects, points = out / "objects" / split, out / "points" / split
        published = f"{split}2017"
        settings = {
            "split": published,
            "images": pictures / "images" / published,
            "objects": "panoptic",
            "objects_file": f"panoptic/panoptic_{published}.json",
            "captions": 0,
            "phrasing": phrasing,
        }
        if not objects.exists():
            perceptio("data", "import", "coco", pictures, "--out", objects, *_set(settings))
        if not (objects / "depth_targets.json").exists():
            asked = ("--teacher", "meter/meter", *_set({"weights": teacher}))
            perceptio("--plugin", METER, "depth-targets", objects, *asked)
        if not points.exists():
            perceptio("data", "import", "marked-points", objects, "--out", points, *_set({"per_image": 2}))
        perceptio("data", "check", objects)


def train_stages(weights: Path, out: Path, asked: dict[str, int | None]) -> dict[str, int]:
    """Train the stages of the small setting, each from the one before, in folders of their names; the steps of each.

    Args:
        weights: The folder of weights.
        out: Holds the data folders and the runs.
        asked: The steps of each stage; None: the setting's own.
    """
    small = HERE / "small.py"
    recipes = {"masks": f"{small}:masks", "words": f"{small}:words", "run": str(small)}
    steps, before = {}, None
    for stage, recipe in recipes.items():
        arguments: dict[str, Any] = {"weights": str(weights), "pictures": str(out)}
        arguments |= {} if before is None else {"after": str(out / before)}
        arguments |= {} if asked[stage] is None else {"steps": asked[stage]}
        words = [word for name, value in arguments.items() for word in ("--arg", f"{name}={value}")]
        steps[stage] = load_recipe(recipe, **arguments).train.steps
        perceptio("train", recipe, *words, "--out", out / stage, "--auto-resume")
        before = stage
    return steps


def random_twin(model: PerceptionModel) -> PerceptionModel:
    """The same recipe with random weights, but for the codebook, without which codes would mean nothing."""
    recipe = model.recipe
    masks = recipe.stream("segmentation").tokenizer
    masks = attrs.evolve(masks, backbone=attrs.evolve(masks.backbone, weights=None))
    # A language model that names weights is built without values, for them to come.
    recipe = attrs.evolve(
        recipe.with_stream("segmentation", tokenizer=masks),
        vision=attrs.evolve(recipe.vision, weights=None),
        language=attrs.evolve(recipe.language, weights=None),
    )
    twin = build_model(recipe, load_weights=False)
    codebook = model.stream("depth").tokenizer.state_dict()
    twin.stream("depth").tokenizer.load_state_dict(codebook)
    return twin.eval()


def evaluate(model: PerceptionModel, out: Path, limit: int) -> dict[str, Any]:
    """The figures of the held-out pictures, by model and by folder."""
    found: dict[str, Any] = {}
    for name, asked, shown in (
        ("trained", model, FolderDataset),
        ("another picture", model, lambda folder: NextPicture(FolderDataset(folder))),
        ("random weights", random_twin(model), FolderDataset),
    ):
        for kind in ("objects", "points"):
            figures = Evaluation(asked, shown(out / kind / "val"), limit=limit).run()  # type: ignore[arg-type]
            found.setdefault(name, {})[kind] = without_nan(figures)
            print(name, kind, json.dumps(found[name][kind]), flush=True)
    return found


def main() -> int:
    """Go the whole way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("weights", "pictures", "teacher", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--mask-steps", type=int, help="of the first stage; without, the setting's own")
    parser.add_argument("--word-steps", type=int, help="of the second stage; without, the setting's own")
    parser.add_argument("--steps", type=int, help="of the last stage; without, the setting's own")
    parser.add_argument("--limit", type=int, default=25, help="held-out pictures that are asked about")
    chosen = parser.parse_args()
    for name in ("weights", "pictures", "teacher"):
        named = getattr(chosen, name)
        if not named or not Path(named).exists():
            print(f"skipped: --{name} names {named!r}, which is not there.")
            return 0
    weights, pictures, teacher, out = (
        Path(named).resolve() for named in (chosen.weights, chosen.pictures, chosen.teacher, chosen.out)
    )
    make_data(pictures, teacher, out)
    run = out / "run"
    steps = train_stages(
        weights, out, {"masks": chosen.mask_steps, "words": chosen.word_steps, "run": chosen.steps}
    )
    model = load(run)
    figures = {"steps": steps, "limit": chosen.limit} | evaluate(model, out, chosen.limit)
    (out / "results.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    asked = FolderDataset(out / "objects" / "val").records[0]
    image = pictures / "images" / "val2017" / str(asked.image).rpartition(":")[2]
    perceptio("ask", run, image, asked.turns[0].question, "--out", out / "asked")
    return 0


def _set(settings: dict[str, object]) -> list[str]:
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


if __name__ == "__main__":
    sys.exit(main())
