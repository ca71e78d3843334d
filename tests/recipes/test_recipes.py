"""Every recipe that comes with the library loads, can be explained, and trains."""

import json
from pathlib import Path

import pytest
from small import scenes_folder

from perceptio.cli.explain import run as explain
from perceptio.serialize import fingerprint, from_json, to_json
from perceptio.settings import SHIPPED, load_recipe, with_settings
from perceptio.training.trainer import METRICS, train

FILES = sorted(SHIPPED.rglob("*.py"))
NAMES = [str(file.relative_to(SHIPPED).with_suffix("")) for file in FILES]
SMALL = {
    "language.hidden_dim": 32,
    "language.num_layers": 1,
    "train.steps": 2,
    "train.batch_size": 2,
    "train.log_every": 1,
    "data.turns": 6,
}
"""What makes a recipe of our own decoder train within a second."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


def test_all_of_them_are_looked_at():
    assert {"perceptio_tiny", "fsq_depth", "ablations/direct", "ablations/answers_only"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_by_its_name_and_survives_json(name):
    recipe = load_recipe(name)
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_can_be_explained(name, capsys):
    recipe = load_recipe(name)
    explain(name)
    printed = capsys.readouterr().out
    assert recipe.name in printed and fingerprint(recipe) in printed


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains(name, scenes, tmp_path):
    recipe = load_recipe(name)
    if recipe.language.name != "decoder":
        pytest.skip("Its language model is not ours, and not small.")
    folders = json.dumps([{"path": str(scenes)}])
    train(with_settings(recipe, {**SMALL, "data.folders": folders}), tmp_path)
    steps = [json.loads(line) for line in Path(tmp_path / METRICS).read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert {weighted.loss.name for weighted in recipe.losses} <= steps[-1].keys()
