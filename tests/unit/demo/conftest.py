"""A complete demo's folder without any training: real scenes, made-up answers."""

import json
from pathlib import Path

import numpy as np
import pytest

from perceptio.data.folder import FolderDataset, write_folder
from perceptio.data.scenes import SceneSet, Split
from perceptio.demo import figures
from perceptio.demo.files import HISTORY
from perceptio.demo.gallery import GalleryItem, Reply, pick_turns, write_gallery
from perceptio.demo.results import Demo
from perceptio.demo.settings import CONTROLS, PERCEPTIO
from perceptio.ops.json_files import write_json
from perceptio.ops.letters import parse_letter

ARMS = (PERCEPTIO, *CONTROLS)
SCENES = 4
STEPS = range(10, 210, 10)
ACCURACY = {"3": 0.8, "4": 0.75, "5": 0.7, "mean": 0.75, "interval": [0.7, 0.8], "count": 1200, "unparsed": 0}


def _metrics() -> dict:
    return {
        "seed": 0,
        "scenes": {"train": 8000, "validation": 250, "test": SCENES},
        "depth_tokenizer": {
            name: {"absrel": 0.05, "rmse": 0.4, "delta1": 0.97, "codes_used": 120, "perplexity": 88.0}
            for name in ("vqvae", "fsq")
        },
        "perceptio": {
            **{
                name: ACCURACY
                for name in ("relative_depth", "relative_depth_readout", "oracle_codes", "shuffled_codes")
            },
            "relative_depth_values": ACCURACY | {"followed": 0.9},
            "referring": {
                "ciou": 0.5,
                "ciou_interval": [0.45, 0.55],
                "giou": 0.4,
                "giou_interval": [0.3, 0.5],
                "missing": 3,
                "count": 12,
            },
            "depth_block": {"absrel": 0.1, "delta1": 0.9, "well_formed": 1.0, "well_formed_free": 0.99},
        },
        "readout_without_block": {
            "relative_depth": {**ACCURACY, "mean": 0.6, "interval": [0.55, 0.65]},
            "depth_map": {"absrel": 0.123, "delta1": 0.85},
            "attribute": {"accuracy": 0.9, "interval": [0.88, 0.92], "count": 800},
            "learned": True,
        },
        "lookup_from_vision": {
            "relative_depth": {**ACCURACY, "mean": 0.32, "interval": [0.28, 0.36]},
            "learned": False,
        },
        "paired": {
            f"perceptio_minus_{arm}": {
                "difference": value,
                "interval": [value - 0.04, value + 0.04],
                "count": 629,
            }
            for arm, value in (("readout_without_block", 0.15), ("lookup_from_vision", 0.43))
        },
        "shortcuts": {
            **{"majority": 0.27, "lowest": 0.31, "largest": 0.3},
            **{f"{name}_interval": [0.25, 0.33] for name in ("majority", "lowest", "largest")},
        },
        "steps": dict.fromkeys(ARMS, 200),
        "fingerprint": {"perceptio": "abc", "readout_without_block": "def", "lookup_from_vision": "123"},
        "seconds": {"scenes": 30.0, "perceptio": 130.0, "total": 150.0},
    }


def _write_arm(root: Path, arm: str, dataset: FolderDataset, random: np.random.Generator) -> None:
    shown = []
    for number in range(SCENES):
        sample = dataset[number]
        marked, referring = pick_turns(sample, number)
        reply = marked and Reply(
            question=marked.question,
            points=marked.points,
            expected=parse_letter(marked.answer),
            answered="ABC"[number % 3],
            text="(A)",
            readout_m=(2.0, 3.0, 4.0, 5.0, 6.0)[: len(marked.points)] if arm == "perceptio" else (),
        )
        drawn = referring is not None and number and arm != "lookup_from_vision"
        shown.append(
            GalleryItem(
                sample=number,
                marked=reply,
                referring=referring and Reply(question=referring.question, text="Sure, it is segmented."),
                decoded={
                    **({"depth": (_noisy(sample.depth.values_HW, random),)} if arm == "perceptio" else {}),
                    **({"segmentation": (np.roll(referring.masks[0], 2, axis=1),)} if drawn else {}),
                },
            )
        )
    write_gallery(root / "evaluation" / arm, shown)
    _write_run(root, arm)


def _write_run(root: Path, arm: str) -> None:
    write_json(
        root / arm / "checkpoint" / "recipe.json",
        {
            "fingerprint": "abc",
            "recipe": {"name": f"<{arm}>", "streams": [{"name": "depth", "codes_per_step": 10}]},
        },
    )
    lines = [{"step": step, "next_token": 3 / step, "depth_token": 5 - step / 100} for step in STEPS]
    (root / arm / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _noisy(depth_HW: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return depth_HW * random.uniform(0.9, 1.1)


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """A demo to be shown."""
    random = np.random.default_rng(0)
    write_folder(tmp_path / "scenes" / "test", SceneSet(split=Split.TEST, count=SCENES), info=SceneSet.info)
    dataset = FolderDataset(tmp_path / "scenes" / "test")
    for arm in ARMS:
        _write_arm(tmp_path, arm, dataset, random)
    for name in ("vqvae", "fsq"):
        (tmp_path / "depth_tokenizers" / name).mkdir(parents=True)
        lines = [{"step": step, "absolute_error": 1 / step, "perplexity": 80.0} for step in STEPS]
        (tmp_path / "depth_tokenizers" / name / HISTORY).write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )
    return Demo(root=tmp_path, metrics=_metrics())


@pytest.fixture
def demo_with_streams(demo: Demo) -> Demo:
    """The same demo with the arm that has every kind of stream, which wrote the truth; no box of scene 0."""
    shown = []
    for number in range(SCENES):
        sample = FolderDataset(demo.root / "scenes" / "test")[number]
        _, referring = pick_turns(sample, number)
        maps = {name: (sample.target(name),) for name in ("edges", "normals")}
        depth = {"depth": (sample.depth.values_HW,)}
        box = {"box": tuple(np.array(figures.box_around(mask)) for mask in referring.masks)}
        shown.append(
            GalleryItem(
                sample=number,
                marked=None,
                referring=Reply(question=referring.question, text="Sure, it is segmented."),
                decoded={**maps, **depth, "segmentation": referring.masks, **(box if number else {})},
                true_codes={**maps, **depth},
            )
        )
    write_gallery(demo.root / "evaluation" / "streams", shown)
    _write_run(demo.root, "streams")
    return Demo(root=demo.root, metrics=_with_streams(demo.metrics))


def _with_streams(metrics: dict) -> dict:
    own = {
        "relative_depth": {**ACCURACY, "mean": 0.987},
        "depth_block": metrics["perceptio"]["depth_block"] | {"count": SCENES},
        "referring": metrics["perceptio"]["referring"],
        "referring_box": {"iou": 0.31, "iou_interval": [0.29, 0.33], "count": 12, "missing": 5},
        "edges_map": {"absolute_error": 0.041, "correlation": 0.412, "count": SCENES, "missing": 0},
        "normals_map": {"angle_degrees": 17.26, "count": SCENES, "missing": 0},
        "features_map": {"cosine": 0.77, "mse": 0.2, "count": SCENES, "missing": 0},
        "true_codes": {
            "box": {"iou": 0.951, "count": 12},
            "edges": {"correlation": 0.73, "count": SCENES},
            "normals": {"angle_degrees": 6.5, "count": SCENES},
        },
        "another_scene": {
            "box": {"iou": 0.1, "count": 12},
            "edges": {"correlation": 0.02, "count": SCENES},
            "normals": {"angle_degrees": 50.0, "count": SCENES},
            "features": {"cosine": 0.5, "mse": 1.0, "count": SCENES},
        },
    }
    return metrics | {
        "streams": own,
        "steps": metrics["steps"] | {"streams": 200},
        "fingerprint": metrics["fingerprint"] | {"streams": "456"},
    }
