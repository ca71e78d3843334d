"""A codebook is trained before it is used, and never random or collapsed by accident."""

import json

import numpy as np
import pytest
import torch
from fakes import FakeDepthConfig
from small import scenes_folder, small_recipe

from perceptio.errors import RecipeError, TrainingError
from perceptio.model.perception_model import load
from perceptio.settings import with_settings
from perceptio.training import codebook, targets
from perceptio.training.codebook import check_usage, to_be_trained
from perceptio.training.targets import write_codes
from perceptio.training.trainer import METRICS, Progress, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


def test_it_is_trained_first_and_said_and_kept(folder, tmp_path):
    said, prepared = [], []
    recipe = small_recipe(folder)
    model = train(
        recipe, tmp_path / "run", say=said.append, preparing=lambda what, done, total: prepared.append(what)
    )
    assert "names no weights for its depth tokenizer depth:vqvae: it is trained first, for 4 steps" in said[0]
    used = next(one for one in said if one.startswith("The training maps use "))
    line = json.loads((tmp_path / "run" / METRICS).read_text().splitlines()[0])
    assert f"use {line['depth_codes.used']} of 8 depth codes" in used and line["depth_codes.used"] > 1
    assert 1 < line["depth_codes.perplexity"] <= line["depth_codes.used"]
    assert {"reading depth maps", "training the depth tokenizer", f"depth codes of {folder}"} == set(prepared)
    kept = load(tmp_path / "run" / "depth_tokenizer")
    for name, value in kept.state_dict().items():
        assert torch.equal(value, model.depth.state_dict()[name]), name
    assert model.recipe.depth.weights is None


def test_it_is_trained_once(folder, tmp_path, monkeypatch):
    """Whether the model's first attempt reached a checkpoint, or ended before."""
    recipe = small_recipe(folder)

    def crash(progress: Progress) -> None:
        raise OSError("power cut")

    with pytest.raises(OSError, match="power cut"):
        train(recipe, tmp_path / "run", progress=crash)
    monkeypatch.setattr(codebook, "train_depth_tokenizer", None)
    monkeypatch.setattr(targets, "encode_depth", None)
    said = []
    train(recipe, tmp_path / "run", say=said.append)
    assert "is the one that was trained before" in said[0]
    train(recipe, tmp_path / "run", resume=True)


def test_other_settings_train_it_anew(folder, tmp_path):
    recipe = with_settings(small_recipe(folder), {"train.steps": 1})
    train(recipe, tmp_path / "run")
    (tmp_path / "run" / "checkpoint").rename(tmp_path / "elsewhere")
    said = []
    train(with_settings(recipe, {"depth_training.steps": 5}), tmp_path / "run", say=said.append)
    assert "it is trained first, for 5 steps" in said[0]


def test_random_values_are_asked_for_by_name(folder):
    recipe = small_recipe(folder)
    assert to_be_trained(recipe)
    assert not to_be_trained(with_settings(recipe, {"depth_training.untrained": True}))
    assert not to_be_trained(with_settings(recipe, {"depth.weights": "runs/tokenizer"}))
    assert not to_be_trained(small_recipe(folder, depth=FakeDepthConfig()))


def test_without_depth_to_train_on_it_is_refused(folder, tmp_path):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "images").symlink_to(folder / "images")
    info = {"format": "perceptio-data", "version": 1}
    (bare / "dataset.json").write_text(json.dumps(info))
    turns = [{"task": "attribute", "question": "Which", "answer": "red"}]
    lines = [{"id": line["id"], "image": line["image"], "turns": turns} for line in lines]
    (bare / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(
        RecipeError, match=r"cannot be trained on the run's own data.* has a depth map.*Name weights"
    ):
        train(with_settings(small_recipe(bare), {"data.mixture": {"attribute": 1.0}}), tmp_path / "run")


def test_one_code_for_everything_stops_a_run(folder, tmp_path):
    flat = torch.full((3, 16), 5, dtype=torch.int16)
    with pytest.raises(TrainingError, match="says all 3 training maps with one code, 5, .*train it anew"):
        check_usage([flat], 8, untrained=False)
    with pytest.raises(TrainingError, match="leave depth_training.untrained out"):
        check_usage([flat], 8, untrained=True)
    flat[0, 0] = 2
    assert check_usage([flat, torch.full((2, 16), -1, dtype=torch.int16)], 8, untrained=False) == {
        "depth_codes.used": 2,
        "depth_codes.perplexity": pytest.approx(np.exp(-(47 * np.log(47 / 48) + np.log(1 / 48)) / 48)),
    }
    assert check_usage([torch.full((2, 16), -1)], 8, untrained=False) == {}


def test_codes_in_the_data_folder_are_read(folder, tmp_path, monkeypatch):
    data = scenes_folder(tmp_path / "data")
    recipe = small_recipe(data)
    train(recipe, tmp_path / "first")
    tokenizer = tmp_path / "first" / "depth_tokenizer"
    write_codes(data, load(tokenizer))
    monkeypatch.setattr(targets, "encode_depth", None)
    train(with_settings(recipe, {"depth.weights": str(tokenizer)}), tmp_path / "second")
    assert not (tmp_path / "second" / "depth_codes").exists()
    lines = [
        json.loads((tmp_path / name / METRICS).read_text().splitlines()[-1]) for name in ("first", "second")
    ]
    assert lines[0]["loss"] == lines[1]["loss"]
