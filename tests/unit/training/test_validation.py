"""What is measured on validation data, what it leaves alone, and which model is best."""

import json

import pytest
import torch
from small import scenes_folder, small_recipe

from perceptio.data.conversations import ConversationSampler
from perceptio.data.scenes import Split
from perceptio.errors import DataError, RecipeError, TrainingError, UnknownNameError
from perceptio.model.perception_model import load
from perceptio.settings import with_settings
from perceptio.training.trainer import METRICS, Progress, train


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    return scenes_folder(place / "train"), scenes_folder(place / "validation", 8, Split.VALIDATION)


def validated(folders, **settings):
    changes = {
        "data.validation": [str(folders[1])],
        "train.validation.every": 2,
        "train.validation.samples": 5,
    }
    return with_settings(small_recipe(folders[0]), changes | settings)


def logged(out):
    lines = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return {line["step"]: line for line in lines}


def test_it_changes_nothing_that_is_trained(folders, tmp_path):
    with_it = train(validated(folders), tmp_path / "with")
    without = train(small_recipe(folders[0]), tmp_path / "without")
    for value, other in zip(with_it.state_dict().values(), without.state_dict().values(), strict=True):
        assert torch.equal(value, other)
    lines = logged(tmp_path / "with")
    assert [step for step, line in lines.items() if "validation.loss" in line] == [2, 4, 6]
    assert {"validation.loss", "validation.next_token", "validation.depth_token.code_accuracy"} <= lines[
        6
    ].keys()
    weights = {weighted.loss.term: weighted.weight for weighted in with_it.recipe.losses}
    plain = sum(weight * lines[6].get(f"validation.{name}", 0.0) for name, weight in weights.items())
    assert lines[6]["validation.loss"] == pytest.approx(plain)


@pytest.mark.parametrize(("goal", "choose"), [("lowest", min), ("highest", max)])
def test_the_best_model_is_kept_beside_the_last(folders, tmp_path, goal, choose):
    recipe = validated(folders, **{"train.validation.goal": goal, "train.validation.every": 1})
    train(recipe, tmp_path / "run")
    values = {step: line["validation.loss"] for step, line in logged(tmp_path / "run").items()}
    best = choose(values, key=values.get)
    kept = json.loads((tmp_path / "run" / "best" / "validation.json").read_text())
    assert (kept["step"], kept["loss"]) == (best, values[best])
    state = json.loads((tmp_path / "run" / "checkpoint" / "training.json").read_text())
    assert (state["step"], state["best"]) == (6, values[best])
    assert load(tmp_path / "run" / "best").recipe.name == "small"


def test_a_resumed_run_knows_its_best(folders, tmp_path):
    recipe = validated(folders)

    def stop_after_three(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(with_settings(recipe, {"train.save_every": 2}), tmp_path / "cut", progress=stop_after_three)
    train(recipe, tmp_path / "cut", resume=True)
    states = [
        json.loads((tmp_path / name / "checkpoint" / "training.json").read_text())
        for name in ("whole", "cut")
    ]
    assert states[0]["best"] == states[1]["best"]
    lines = [logged(tmp_path / name) for name in ("whole", "cut")]
    for step in (2, 4, 6):
        assert lines[0][step]["validation.loss"] == lines[1][step]["validation.loss"]
    best = [(tmp_path / name / "best" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert best[0] == best[1]


def test_a_value_of_another_figure_is_not_the_best_so_far(folders, tmp_path):
    recipe = validated(folders, **{"train.schedule": "constant", "train.steps": 2})
    train(recipe, tmp_path / "run")
    changes = {"train.steps": 4, "train.validation.best": "next_token", "train.validation.goal": "highest"}
    train(with_settings(recipe, changes), tmp_path / "run", resume=True)
    kept = json.loads((tmp_path / "run" / "best" / "validation.json").read_text())
    assert kept["step"] == 4 and kept["next_token"] == logged(tmp_path / "run")[4]["validation.next_token"]


def test_a_limit_bounds_it(folders, tmp_path, monkeypatch):
    drawn = []
    whole = ConversationSampler.draw

    def watched(self, number, count):
        if self.recipe.data.folders[0].path == str(folders[1]):
            drawn.append((number, count))
        return whole(self, number, count)

    monkeypatch.setattr(ConversationSampler, "draw", watched)
    train(validated(folders, **{"train.steps": 1}), tmp_path / "run")
    assert drawn == [(0, 2), (1, 2), (2, 1)]


def test_a_figure_that_is_not_there_is_refused(folders, tmp_path):
    with pytest.raises(UnknownNameError, match="best names the figure 'losss'; did you mean 'loss'"):
        train(validated(folders, **{"train.validation.best": "losss"}), tmp_path / "a")
    assert not (tmp_path / "a" / "codes").exists()
    with pytest.raises(DataError, match="There is no folder nowhere"):
        train(validated(folders, **{"data.validation": ["nowhere"]}), tmp_path / "a")
    assert not (tmp_path / "a" / "codes").exists()
    with pytest.raises(
        TrainingError, match="'segmentation_dice.iou', which the validation data do not give; did you mean"
    ):
        changes = {"train.validation.best": "segmentation_dice.iou", "train.validation.goal": "highest"}
        train(validated(folders, **changes), tmp_path / "b")


def test_of_a_metric_it_must_be_said_which_value_is_best(folders):
    with pytest.raises(
        RecipeError, match="is the metric 'segmentation_dice.mask_iou': say with train.validation.goal"
    ):
        validated(folders, **{"train.validation.best": "segmentation_dice.mask_iou"})
