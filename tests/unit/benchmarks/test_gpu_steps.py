"""The steps of `make gpu` run on a CPU, and the large recipe finds in scenes what it asks for."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import torch
from small import scenes_folder

from perceptio.data.conversations import ConversationSampler
from perceptio.data.folder import FolderDataset
from perceptio.recipe import DataFolder
from perceptio.settings import load_recipe

FOLDER = Path(__file__).parents[3] / "benchmarks" / "gpu"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("parity", ()),
        ("large_training", ("--recipe", "perceptio_1b")),
        ("large_training", ("--recipe", "perceptio_135m")),
    ],
)
def test_a_step_is_rehearsed_on_a_cpu(step, options, tmp_path):
    command = [
        sys.executable,
        str(FOLDER / f"{step}.py"),
        *options,
        "--rehearse",
        "--out",
        str(tmp_path / "found.json"),
    ]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["summary"] in done.stdout
    if step == "large_training":
        assert found["steps"] == 2 and found["peak_gib"] > found["foretold_training_gib"] > 0
    else:
        assert not found["wrong"]
        heads = {case["model"]: tuple(case["heads"]) for case in found["cases"]}
        assert heads["qwen2.5-0.5b"] == (14, 2, 64) and heads["internvit-300m"] == (16, 16, 64)
        assert heads["internlm2.5-7b"] == (32, 8, 128) and heads["ours"][2] == 32


@pytest.mark.parametrize("name", ["perceptio_1b", "perceptio_135m"])
def test_a_large_recipe_at_its_real_sizes_finds_its_tasks_in_scenes(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    large = importlib.import_module("large_training")
    recipe = large.with_random_weights(load_recipe(name))
    folder = scenes_folder(tmp_path / "scenes")
    recipe = attrs.evolve(recipe, data=attrs.evolve(recipe.data, folders=(DataFolder(path=str(folder)),)))
    recipe.check()
    dataset = FolderDataset(folder)
    codes_NL = torch.zeros(len(dataset), recipe.plan.readout_block.length, dtype=torch.long)
    assert len(ConversationSampler(recipe, [dataset], {"depth": [codes_NL]}).draw(0, 4)) == 4
    assert set(recipe.data.mixture) == {"referring", "relative_depth", "depth_map"}
