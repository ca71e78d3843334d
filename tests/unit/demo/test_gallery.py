from pathlib import Path

import attrs
import numpy as np
import pytest

from perceptio.data.folder import FolderDataset, write_folder
from perceptio.data.scenes import SceneSet, Split
from perceptio.demo.gallery import GalleryItem, read_gallery, record_gallery, write_gallery
from perceptio.model.perception_model import build_model
from perceptio.settings import load_recipe


@pytest.fixture
def dataset(tmp_path: Path) -> FolderDataset:
    write_folder(tmp_path / "scenes", SceneSet(split=Split.TEST, count=2), info=SceneSet.info)
    return FolderDataset(tmp_path / "scenes")


def test_every_stream_is_kept_as_it_was_decoded(tmp_path: Path) -> None:
    decoded = {
        "normals": (np.full((2, 2, 3), 0.5, dtype=np.float32),),
        "box": (np.array([0.0, 1.0, 2.5, 4.0]), np.array([1.0, 1.0, 2.0, 2.0])),
        "segmentation": (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]),
    }
    first = GalleryItem(sample=0, marked=None, referring=None, decoded=decoded)
    bare = GalleryItem(sample=1, marked=None, referring=None)
    write_gallery(tmp_path, [first, bare])
    read, other = read_gallery(tmp_path)
    assert read.decoded.keys() == decoded.keys()
    for name, arrays in decoded.items():
        assert len(read.decoded[name]) == len(arrays)
        assert all(map(np.array_equal, read.decoded[name], arrays))
    assert read.mask_HW is not None and read.mask_HW.all() and read.depth_HW is None
    assert other.decoded == {} and other.mask_HW is None


def test_a_model_is_asked_for_every_stream_that_it_writes(tmp_path: Path, dataset: FolderDataset) -> None:
    model = build_model(load_recipe("perceptio_streams")).eval()
    record_gallery(model, dataset, 1, tmp_path)
    (shown,) = read_gallery(tmp_path)
    assert shown.sample == 0 and shown.marked is not None and shown.referring is not None
    # An untrained model need not mention an object.
    assert {"depth", "edges", "normals", "features"} <= shown.decoded.keys()
    assert shown.true_codes.keys() == {"depth", "edges", "normals"}
    for name, shape in (("edges", (80, 80, 1)), ("normals", (80, 80, 3)), ("depth", (80, 80))):
        assert shown.decoded[name][0].shape == shown.true_codes[name][0].shape == shape
    assert len(shown.marked.readout_m) == len(shown.marked.points)


def test_an_arm_that_perceives_in_a_task_of_its_own_is_asked_so(
    tmp_path: Path, dataset: FolderDataset
) -> None:
    recipe = load_recipe("perceptio_tiny")
    apart = attrs.evolve(
        recipe, answer_format="direct", data=attrs.evolve(recipe.data, perceive="separate_task")
    )
    record_gallery(build_model(apart).eval(), dataset, 1, tmp_path)
    (shown,) = read_gallery(tmp_path)
    assert shown.marked is not None and shown.marked.readout_m == ()
    assert shown.depth_HW is not None and shown.depth_HW.shape == (80, 80)


def test_a_level_is_shown_in_metres(tmp_path: Path, dataset: FolderDataset) -> None:
    """64 levels of the logarithm from 1 to 16 m: the middle of each, the last the nearest."""
    record_gallery(build_model(load_recipe("perceptio_lookup")).eval(), dataset, 1, tmp_path)
    (shown,) = read_gallery(tmp_path)
    assert shown.marked is not None and len(shown.marked.readout_m) == len(shown.marked.points)
    steps = [64 - np.log(metres) / np.log(16) * 64 - 0.5 for metres in shown.marked.readout_m]
    assert steps == pytest.approx([round(step) for step in steps], abs=1e-3)
