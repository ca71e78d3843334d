"""A codebook is trained before it is used, and never random or collapsed by accident."""

import json
import shutil

import attrs
import numpy as np
import pytest
import torch
from fakes import FakeDepthConfig
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.errors import RecipeError, TrainingError
from perceptio.model.perception_model import load
from perceptio.recipe import Stream
from perceptio.settings import with_settings
from perceptio.training import codebook, codes
from perceptio.training.codebook import check_usage, to_be_trained
from perceptio.training.codes import codes_in, write_codes
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
    assert (
        "names no weights for the tokenizer depth:vqvae of the stream 'depth': it is trained first" in said[0]
    )
    used = next(one for one in said if one.startswith("The training data use "))
    line = json.loads((tmp_path / "run" / METRICS).read_text().splitlines()[0])
    assert (
        f"use {line['depth_codes.used']} of 8 codes of depth (perplexity" in used
        and line["depth_codes.used"] > 1
    )
    assert 1 < line["depth_codes.perplexity"] <= line["depth_codes.used"]
    assert {
        "reading targets of depth",
        "training the tokenizer of depth",
        f"codes of depth in {folder}",
    } == set(prepared)
    kept = load(tmp_path / "run" / "tokenizers" / "depth")
    for name, value in kept.state_dict().items():
        assert torch.equal(value, model.stream("depth").tokenizer.state_dict()[name]), name
    assert model.recipe.stream("depth").tokenizer.weights is None


def test_it_is_trained_once(folder, tmp_path, monkeypatch):
    """Whether the model's first attempt reached a checkpoint, or ended before."""
    recipe = small_recipe(folder)

    def crash(progress: Progress) -> None:
        raise OSError("power cut")

    with pytest.raises(OSError, match="power cut"):
        train(recipe, tmp_path / "run", progress=crash)
    monkeypatch.setattr(codebook, "train_tokenizer", None)
    monkeypatch.setattr(codes, "encode_targets", None)
    said = []
    train(recipe, tmp_path / "run", say=said.append)
    assert "is the one that was trained before" in said[0]
    train(recipe, tmp_path / "run", resume=True)


def test_other_settings_train_it_anew(folder, tmp_path):
    recipe = with_settings(small_recipe(folder), {"train.steps": 1})
    train(recipe, tmp_path / "run")
    (tmp_path / "run" / "checkpoint").rename(tmp_path / "elsewhere")
    said = []
    train(with_settings(recipe, {"streams.depth.training.steps": 5}), tmp_path / "run", say=said.append)
    assert "it is trained first, for 5 steps" in said[0]


def test_random_values_are_asked_for_by_name(folder):
    recipe = small_recipe(folder)
    assert to_be_trained(recipe.stream("depth")) and not to_be_trained(recipe.stream("segmentation"))
    for setting in ({"training.untrained": True}, {"tokenizer.weights": "runs/tokenizer"}):
        changed = with_settings(recipe, {f"streams.depth.{name}": value for name, value in setting.items()})
        assert not to_be_trained(changed.stream("depth"))
    assert not to_be_trained(Stream(name="depth", tokenizer=FakeDepthConfig()))


def test_without_depth_to_train_on_it_is_refused(folder, tmp_path):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    bare = tmp_path / "bare"
    shutil.copytree(folder / "images", bare / "images")
    info = {"format": "perceptio-data", "version": 1}
    (bare / "dataset.json").write_text(json.dumps(info))
    turns = [{"task": "attribute", "question": "Which", "answer": "red"}]
    lines = [{"id": line["id"], "image": line["image"], "turns": turns} for line in lines]
    (bare / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(
        RecipeError, match=r"cannot be trained on the run's own data.* has the target 'depth'.*Name weights"
    ):
        train(with_settings(small_recipe(bare), {"data.mixture": {"attribute": 1.0}}), tmp_path / "run")


def test_one_code_for_everything_stops_a_run(folder):
    stream = small_recipe(folder).stream("depth")
    flat = torch.full((3, 16), 5, dtype=torch.int16)
    with pytest.raises(
        TrainingError, match="'depth' says all 3 training targets with one code.*train it anew"
    ):
        check_usage(stream, [flat])
    untrained = attrs.evolve(stream, training=attrs.evolve(stream.training, untrained=True))
    with pytest.raises(TrainingError, match=r"leave streams\.depth\.training\.untrained out"):
        check_usage(untrained, [flat])
    flat[0, 0] = 2
    assert check_usage(stream, [flat, torch.full((2, 16), -1, dtype=torch.int16)]) == {
        "depth_codes.used": 2,
        "depth_codes.perplexity": pytest.approx(np.exp(-(47 * np.log(47 / 48) + np.log(1 / 48)) / 48)),
    }
    assert check_usage(stream, [torch.full((2, 16), -1)]) == {}


def test_codes_of_another_tokenizer_are_said_and_not_used(tmp_path):
    data = scenes_folder(tmp_path / "data")
    recipe = small_recipe(data)
    write_codes(FolderDataset(data), recipe.stream("depth").tokenizer.build().eval(), codes_in(data, "depth"))
    said = []
    train(recipe, tmp_path / "run", say=said.append)
    assert sum("codes that are there are not used" in one and "of the tokenizer" in one for one in said) == 1
    assert (tmp_path / "run" / "codes" / "depth" / "training-0.npy").is_file()


def test_codes_in_the_data_folder_are_read(folder, tmp_path, monkeypatch):
    data = scenes_folder(tmp_path / "data")
    recipe = small_recipe(data)
    train(recipe, tmp_path / "first")
    tokenizer = tmp_path / "first" / "tokenizers" / "depth"
    write_codes(FolderDataset(data), load(tokenizer), codes_in(data, "depth"))
    monkeypatch.setattr(codes, "encode_targets", None)
    train(with_settings(recipe, {"streams.depth.tokenizer.weights": str(tokenizer)}), tmp_path / "second")
    assert not (tmp_path / "second" / "codes").exists()
    lines = [
        json.loads((tmp_path / name / METRICS).read_text().splitlines()[-1]) for name in ("first", "second")
    ]
    assert lines[0]["loss"] == lines[1]["loss"]
