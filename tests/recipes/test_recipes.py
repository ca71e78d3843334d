"""The recipes that come with the library: each loads, is explained and trains, the large ones as their tiny twins."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import scenes_folder

import perceptio
from perceptio.cli.explain import run as explain
from perceptio.data.folder import FolderDataset
from perceptio.experiments.experiment import load_experiment
from perceptio.interfaces import Codes, DepthMap, GenerationSettings
from perceptio.model.checkpoints.pretrained import pretrained_weights
from perceptio.recipe import Recipe
from perceptio.recipe_files import shipped_names
from perceptio.serialize import fingerprint, from_json, to_json
from perceptio.settings import load_recipe, with_settings
from perceptio.training.codebook import with_codebooks
from perceptio.training.trainer import METRICS, train

NAMES = [name for name in shipped_names() if not name.startswith("experiments/")]
EXPERIMENTS = sorted(set(shipped_names()) - set(NAMES))
PUBLISHED = ["aurora", "covt", "lisa", "mirage", "next_scale_depth", "paligemma_masks", "sa2va"]
"""Those of systems that others have published."""
LARGE = [
    "other_masks",
    "perceptio_135m",
    "perceptio_1b",
    "perceptio_4b",
    "perceptio_8b",
    "qwen_openclip",
    *PUBLISHED,
]
"""Those that are no size for a CPU: they have a `tiny()`."""

FOR_A_CPU = sorted(set(NAMES) - set(LARGE))
CODEBOOK = {"steps": 3, "batch_size": 2, "unquantized": 0.0}
"""What makes a tokenizer of codes train within a second."""
SMALL = {
    "language.hidden_dim": 32,
    "language.num_layers": 1,
    "train.steps": 2,
    "train.micro_batch_size": 2,
    "train.log_every": 1,
    "data.turns": 6,
}
"""What makes a recipe of our own decoder train within a second."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


def components(recipe: Recipe) -> list[type]:
    losses = [weighted.loss for weighted in recipe.losses]
    return [type(part) for part in (*recipe.parts.values(), *losses)]


def small_codebooks(recipe: Recipe) -> dict[str, float]:
    """The settings of `CODEBOOK` for every stream of codes."""
    names = [stream.name for stream in recipe.streams if isinstance(stream.spec.written, Codes)]
    return {f"streams.{name}.training.{key}": value for name in names for key, value in CODEBOOK.items()}


def assert_same(one: Any, other: Any) -> None:
    """Decoded values of any kind, all through their parts."""
    if isinstance(one, DepthMap):
        one, other = one.values_HW, other.values_HW
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, its in zip(one, other, strict=True):
            assert_same(mine, its)
    else:
        np.testing.assert_array_equal(one, other)


VARIANTS = {
    "experiments/lessons": 6,
    "experiments/fsq": 4,
    "experiments/steps": 9,
    "experiments/losses": 8,
    "experiments/tokens": 10,
    "experiments/what_is_read": 2,
    "experiments/what_perceiving_buys": 20,
}


def test_all_of_them_are_looked_at():
    assert {"perceptio_tiny", "fsq_depth", "ablations/direct", "ablations/answers_only"} <= set(FOR_A_CPU)
    assert set(LARGE) < set(NAMES) and len(NAMES) == 23 and set(EXPERIMENTS) == set(VARIANTS)
    for name in FOR_A_CPU:
        assert not pretrained_weights(load_recipe(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_by_its_name_and_survives_json(name):
    recipe = load_recipe(name)
    again = from_json(json.loads(json.dumps(to_json(recipe))))
    assert again == recipe and fingerprint(again) == fingerprint(recipe)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_can_be_explained_without_weights_or_files(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(name)
    explain(name)
    printed = capsys.readouterr().out
    assert recipe.name in printed and fingerprint(recipe) in printed


@pytest.mark.parametrize("name", FOR_A_CPU)
def test_a_recipe_trains(name, scenes, tmp_path):
    recipe = load_recipe(name)
    folders = json.dumps([{"path": str(scenes)}])
    train(with_settings(recipe, {**SMALL, **small_codebooks(recipe), "data.folders": folders}), tmp_path)
    steps = [json.loads(line) for line in Path(tmp_path / METRICS).read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert {weighted.loss.term for weighted in recipe.losses} <= set().union(*steps)


@pytest.mark.parametrize("name", LARGE)
def test_a_tiny_twin_has_the_same_parts(name):
    full, small = load_recipe(name), load_recipe(f"{name}:tiny")
    assert components(full) == components(small)
    assert full.train.train == small.train.train
    assert [stream.name for stream in full.streams] == [stream.name for stream in small.streams]
    assert [one.weight for one in full.losses] == [one.weight for one in small.losses]
    assert pretrained_weights(full) and not pretrained_weights(small)


@pytest.mark.parametrize("name", LARGE)
def test_a_tiny_twin_trains_answers_saves_and_loads(name, scenes, tmp_path, caplog):
    recipe = load_recipe(f"{name}:tiny")
    recipe = with_settings(recipe, {**small_codebooks(recipe), "data.folders": [str(scenes)]})
    logged: list[dict[str, float]] = []
    model = train(recipe, tmp_path / "run", progress=lambda step: logged.append(dict(step.metrics)))
    torch.manual_seed(recipe.train.seed)
    codebooks = {folder.name: folder for folder in (tmp_path / "run" / "tokenizers").glob("*")}
    start = perceptio.build_model(with_codebooks(recipe, codebooks)).state_dict()
    assert len(logged) == 2 and {one.loss.term for one in recipe.losses} <= logged[1].keys()
    moved = {name for name, value in model.state_dict().items() if not value.equal(start[name])}
    assert moved <= {name for name, p in model.named_parameters() if p.requires_grad}
    assert {part.split(".")[0] for part in recipe.train.train} == {name.split(".")[0] for name in moved}
    for head in (name for name in recipe.parts if name.endswith((".head", ".feedback"))):
        assert any(name.startswith(f"{head}.") for name in moved), head

    image = FolderDataset(scenes)[0].image_3HW
    questions = [
        (image, "Which point is closest to the camera?", ((0.2, 0.3), (0.7, 0.6), (0.5, 0.9))),
        (image, "Please segment the red sphere in this image.", ()),
    ]
    settings = GenerationSettings(force=tuple(stream.name for stream in recipe.streams), max_new_tokens=4)
    answers = model.ask_batch(questions, settings=settings)
    for answer in answers:
        for stream in recipe.streams:
            per_image = stream.spec.per == "image"
            decoded = [answer[stream.name]] if per_image else answer[stream.name]
            assert len(decoded) >= 1 and all(one is not None for one in decoded)
            if isinstance(stream.spec.written, Codes):
                codes = answer.codes[stream.name]
                blocks = [codes] if per_image else codes
                assert {len(block) for block in blocks} == {stream.spec.written.length}

    model.save_pretrained(tmp_path / "saved")
    with caplog.at_level(logging.INFO):
        loaded = perceptio.load(tmp_path / "saved")
    assert "drawn" not in caplog.text
    again = loaded.ask_batch(questions, settings=settings)
    assert [answer.tokens for answer in again] == [answer.tokens for answer in answers]
    for one, other in zip(again, answers, strict=True):
        for stream in recipe.streams:
            assert_same(one[stream.name], other[stream.name])


@pytest.mark.parametrize("masks", ["sam2", "pixel_features"])
def test_the_135m_is_small_with_either_kind_of_masks(masks, scenes, tmp_path):
    recipe = load_recipe("perceptio_135m", masks=masks)
    model = perceptio.build_model(recipe, device="meta")
    assert 180e6 < sum(p.numel() for p in model.parameters()) < 250e6
    assert not any(p.requires_grad for p in model.vision.parameters())
    if masks == "pixel_features":
        encoder = "streams.segmentation.tokenizer.backbone"
        assert not any(p.requires_grad for p in model.get_submodule(encoder).parameters())
        assert pretrained_weights(recipe)[encoder] == recipe.vision.weights
        small = load_recipe("perceptio_tiny")
        assert set(recipe.train.muon) < set(recipe.train.train)
        for term in ("segmentation_mask_bce", "segmentation_dice"):
            assert [one.weight for one in recipe.losses if one.loss.term == term] == [
                one.weight for one in small.losses if one.loss.term == term
            ]
        tiny = load_recipe("perceptio_135m:tiny", masks=masks)
        settings = {**small_codebooks(tiny), "data.folders": [str(scenes)]}
        train(with_settings(tiny, settings), tmp_path)


def test_the_stages_of_covt_follow_each_other():
    stages = [load_recipe(f"covt:stage{number}") for number in (1, 2, 3, 4)]
    assert [stage.start_from for stage in stages] == [None, *(f"runs/covt/stage{n}" for n in (1, 2, 3))]
    assert [stage.data.perceive for stage in stages] == ["separate_task", "separate_task", "before", "before"]
    assert [stage.data.streams for stage in stages] == ["all", "all", "all", "random_subset"]
    assert [stage.train.steps for stage in stages] == [6000, 3000, 3000, 2000]
    assert "next_token" not in {one.loss.term for one in stages[0].losses}
    for stage in stages:
        assert stage.parts == stages[0].parts and from_json(to_json(stage)) == stage


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_has_recipes_that_differ_and_tiny_twins(name):
    whole, tiny = load_experiment(name), load_experiment(name, tiny=True)
    assert [*whole.variants] == [*tiny.variants] and len(whole.variants) == VARIANTS[name]
    recipes = [whole.recipe(variant) for variant in whole.variants]
    assert len({fingerprint(recipe) for recipe in recipes}) == len(recipes)
    assert {tiny.recipe(variant).train.steps for variant in tiny.variants} == {4}
