"""Targets of data folders: in the form of a tokenizer, with weights, and what is held out."""

import json

import numpy as np
import pytest
import torch
from fakes import FakeDepth, FakeDepthConfig
from PIL import Image

from perceptio.errors import DataError
from perceptio.interfaces import DepthConvention, DepthSpec
from perceptio.recipe import DataFolder
from perceptio.training.target_maps import HELD_OUT, read_target_maps, read_training_maps

METRIC = FakeDepthConfig().build()
RELATIVE = FakeDepth(
    DepthSpec(codebook_size=8, grid=(4, 4), image_size=(16, 16), convention=DepthConvention())
)


def folder_of(path, maps, unit="metres"):
    """A data folder with NPY depth; None is a sample without."""
    for name in ("images", "depth"):
        (path / name).mkdir(parents=True)
    lines = []
    for number, values_HW in enumerate(maps):
        line = {"id": str(number), "image": f"images/{number}.png", "turns": []}
        Image.new("RGB", (20, 20)).save(path / line["image"])
        if values_HW is not None:
            line["depth"] = f"depth/{number}.npy"
            np.save(path / line["depth"], values_HW.astype(np.float32))
        lines.append(json.dumps(line))
    (path / "samples.jsonl").write_text("\n".join(lines))
    info = {"format": "perceptio-data", "version": 1, "depth": {"unit": unit}}
    (path / "dataset.json").write_text(json.dumps(info))
    return path


def flat(metres):
    return np.full((20, 20), metres)


def test_maps_come_in_the_convention_and_size_of_the_tokenizer(tmp_path):
    holed = flat(16.0)
    holed[:, :10] = np.nan
    seen = []
    folder = folder_of(tmp_path / "data", [flat(4.0), None, holed])
    maps = read_target_maps(folder, METRIC, progress=lambda done, total: seen.append((done, total)))
    assert maps.shape == (2, 1, 16, 16) and maps.dtype == torch.float16
    assert bool((maps[0] == 0.5).all())  # 4 m lies halfway from 1 to 16 m in ratios.
    assert bool(maps[1][..., :7].isnan().all()) and bool((maps[1][..., 9:] == 1).all())
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_every_so_manieth_map_is_held_out_and_weights_are_shared(tmp_path):
    many = folder_of(tmp_path / "many", [flat(1.0 + n / 10) for n in range(HELD_OUT + 2)])
    few = folder_of(tmp_path / "few", [flat(10.0), flat(12.0), flat(14.0)])
    maps = read_training_maps([DataFolder(path=str(many)), DataFolder(path=str(few), weight=3.0)], METRIC)
    assert len(maps.training_NCHW) == len(maps.weights_N) == HELD_OUT + 2
    assert len(maps.held_out_MCHW) == 3  # The first and the twenty-first of many, the first of few.
    assert maps.weights_N[:-2].sum().item() == pytest.approx(1.0)
    assert maps.weights_N[-2:].tolist() == [1.5, 1.5]
    trained_on = maps.training_NCHW[:, 0, 0, 0].tolist()
    assert not set(maps.held_out_MCHW[:, 0, 0, 0].tolist()) & set(trained_on)


def test_maps_on_disk_are_those_in_memory_and_leave_no_file(tmp_path):
    folder = folder_of(tmp_path / "data", [flat(1.0 + n) for n in range(5)])
    store = tmp_path / "store"
    store.mkdir()
    kept = read_training_maps([DataFolder(path=str(folder))], METRIC, store=store)
    held = read_training_maps([DataFolder(path=str(folder))], METRIC)
    assert torch.equal(kept.training_NCHW, held.training_NCHW) and len(kept.training_NCHW) == 4
    assert torch.equal(kept.held_out_MCHW, held.held_out_MCHW)
    assert torch.equal(read_target_maps(folder, METRIC, store=store), read_target_maps(folder, METRIC))
    assert not list(store.iterdir())
    with pytest.raises(DataError, match="nowhere could not be written"):
        read_target_maps(folder, METRIC, store=tmp_path / "nowhere")


def test_folders_without_targets_are_passed_over(tmp_path):
    given = folder_of(tmp_path / "given", [flat(1.0 + n) for n in range(3)])
    none = folder_of(tmp_path / "none", [None])
    alone = read_training_maps([DataFolder(path=str(given))], METRIC)
    both = read_training_maps([DataFolder(path=str(none), weight=9.0), DataFolder(path=str(given))], METRIC)
    assert torch.equal(both.training_NCHW, alone.training_NCHW)
    assert torch.equal(both.weights_N, alone.weights_N)


def test_what_cannot_be_trained_on_is_named(tmp_path):
    with pytest.raises(DataError, match="names no data folder to train a tokenizer on"):
        read_training_maps([], METRIC)
    none = folder_of(tmp_path / "none", [None])
    with pytest.raises(DataError, match="No sample of .*none has the target 'depth'"):
        read_target_maps(none, METRIC)
    bare = folder_of(tmp_path / "bare", [None])
    with pytest.raises(DataError, match="No sample of .*none, .*bare has the target 'depth'"):
        read_training_maps([DataFolder(path=str(none)), DataFolder(path=str(bare))], METRIC)
    one = folder_of(tmp_path / "one", [flat(2.0)])
    with pytest.raises(DataError, match="one has 1 target 'depth', and at least 2 are needed"):
        read_training_maps([DataFolder(path=str(one))], METRIC)
    relative = folder_of(tmp_path / "relative", [flat(2.0)], unit="disparity")
    with pytest.raises(DataError, match=r"relative/depth/0.npy: The depth tokenizer speaks of metres"):
        read_target_maps(relative, METRIC)
    assert read_target_maps(relative, RELATIVE).shape == (1, 1, 16, 16)


def test_a_map_that_vanishes_at_the_tokenizer_s_size_is_named(tmp_path):
    lonely = np.full((900, 900), np.nan)
    lonely[0, 0] = 2.0
    folder = folder_of(tmp_path / "data", [lonely])
    with pytest.raises(DataError, match=r"depth/0.npy has too few known pixels to be seen at 16x16"):
        read_target_maps(folder, METRIC)
