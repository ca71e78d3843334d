from pathlib import Path

import pytest

from perceptio.data.folder import FolderDataset, write_folder
from perceptio.data.scenes import SceneSet, Split
from perceptio.demo.limits import limits
from perceptio.model.perception_model import build_model
from perceptio.settings import load_recipe


@pytest.fixture
def dataset(tmp_path: Path) -> FolderDataset:
    write_folder(tmp_path / "scenes", SceneSet(split=Split.TEST, count=4), info=SceneSet.info)
    return FolderDataset(tmp_path / "scenes")


def test_figures_lie_between_the_codes_of_the_truth_and_another_scene(dataset: FolderDataset) -> None:
    found = limits(build_model(load_recipe("perceptio_streams")), dataset)
    assert found["true_codes"].keys() == {"box", "edges", "normals"}
    assert found["another_scene"].keys() == {"box", "edges", "normals", "features"}
    expressions = sum(turn.task == "referring" for sample in dataset for turn in sample.turns)
    best, other = found["true_codes"]["box"], found["another_scene"]["box"]
    # Of 64 places on 80 pixels, a coordinate is off by at most 0.64 pixels.
    assert best["count"] == other["count"] == expressions
    assert best["iou"] > 0.8 > 2 * other["iou"]
    assert best["iou_interval"][0] <= best["iou"] <= best["iou_interval"][1]
    assert found["another_scene"]["normals"]["count"] == len(dataset)
    assert 0 < found["another_scene"]["normals"]["angle_degrees"] < 90
    assert found["another_scene"]["features"]["cosine"] < 1
    assert found["another_scene"]["edges"]["correlation"] < 0.5


def test_the_paper_s_streams_have_their_own_figures(dataset: FolderDataset) -> None:
    assert limits(build_model(load_recipe("perceptio_tiny")), dataset) == {}
