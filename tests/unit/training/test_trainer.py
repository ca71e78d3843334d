"""Training as a user meets it: a folder, metrics, resuming to the bit, and what stops it."""

import json
import os
import signal

import attrs
import pytest
import torch
from pretrained import PLUGIN, PretrainedVisionConfig, write_base
from safetensors import safe_open
from small import scenes_folder, small_recipe

from perceptio.errors import CheckpointError, RecipeError, TrainingError
from perceptio.model.checkpoint import load
from perceptio.ops.precision import computes_bfloat16
from perceptio.training.trainer import METRICS, Progress, Trainer, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def stop_after_two(progress: Progress) -> None:
    """What Ctrl-C does at the second step."""
    if progress.step == 2:
        os.kill(os.getpid(), signal.SIGINT)


def test_a_run_leaves_a_checkpoint_metrics_and_curves(folder, tmp_path):
    seen: list[Progress] = []
    model = train(small_recipe(folder), tmp_path / "run", progress=seen.append)

    assert [p.step for p in seen] == [1, 2, 3, 4, 5, 6]
    assert all(p.steps == 6 and p.seconds > 0 for p in seen)
    lines = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    shown = {"next_token", "depth_token", "mask_bce", "cell_codes", "lr", "loss", "peak_resident_gib"}
    assert shown <= lines[-1].keys()
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    assert_same_weights(weights_of(load(tmp_path / "run")), weights_of(model))


def test_training_moves_what_it_names_and_nothing_else(folder, tmp_path):
    recipe = small_recipe(folder)
    recipe = attrs.evolve(recipe, train=attrs.evolve(recipe.train, train=("language.trunk",)))
    torch.manual_seed(recipe.train.seed)
    from perceptio.model.assemble import build_model

    before = weights_of(build_model(recipe))
    after = weights_of(train(recipe, tmp_path / "run"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("language.") and "embedding" not in name for name in moved)


def test_a_resumed_run_ends_bit_identical(folder, tmp_path):
    recipe = small_recipe(folder)
    recipe = attrs.evolve(recipe, train=attrs.evolve(recipe.train, muon={"language.trunk": 0.02}))
    whole = train(recipe, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", progress=stop_after_two)
    assert json.loads((tmp_path / "cut" / "checkpoint" / "training.json").read_text())["step"] == 2
    resumed = train(recipe, tmp_path / "cut", resume=True)

    assert_same_weights(weights_of(whole), weights_of(resumed))
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / METRICS).read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_run_without_the_base_in_its_checkpoints_goes_on_just_so(folder, tmp_path, monkeypatch):
    (tmp_path / "acme.py").write_text(PLUGIN)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(tmp_path / "acme.py"))
    vision = PretrainedVisionConfig(weights=write_base(tmp_path / "base")["vision"])
    recipe = small_recipe(folder, vision=vision)
    trained = tuple(name for name in recipe.train.train if name != "vision")
    recipe = attrs.evolve(recipe, train=attrs.evolve(recipe.train, train=trained, save_base=False))
    whole = train(recipe, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", progress=stop_after_two)
    with safe_open(tmp_path / "cut" / "checkpoint" / "model.safetensors", framework="pt") as file:
        assert not any(name.startswith("vision.") for name in file.keys())  # noqa: SIM118
    assert_same_weights(weights_of(whole), weights_of(train(recipe, tmp_path / "cut", resume=True)))


def test_a_parameter_that_no_loss_reaches_does_not_stop_a_resumption(folder, tmp_path):
    recipe = small_recipe(folder)
    losses = tuple(weighted for weighted in recipe.losses if weighted.loss.name == "next_token")
    recipe = attrs.evolve(recipe, losses=losses, heads={})
    assert any(name.startswith("segmentation") for name in recipe.train.train)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", progress=stop_after_two)
    resumed = train(recipe, tmp_path / "cut", resume=True)
    assert_same_weights(weights_of(whole), weights_of(resumed))


def test_another_recipe_does_not_resume_the_checkpoint(folder, tmp_path):
    recipe = small_recipe(folder)
    train(recipe, tmp_path / "run")
    other = attrs.evolve(recipe, train=attrs.evolve(recipe.train, lr=5e-4))
    with pytest.raises(CheckpointError, match="was trained from another recipe"):
        train(other, tmp_path / "run", resume=True)


def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_saved(folder, tmp_path):
    recipe = small_recipe(folder)
    train(recipe, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes()
    wild = attrs.evolve(
        recipe, train=attrs.evolve(recipe.train, lr=1e30, warmup_steps=0, clip=1e30, steps=40)
    )
    with pytest.raises(TrainingError, match="stopped being finite.*lower train.lr"):
        train(wild, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes() == before


def test_out_of_memory_says_what_to_lower(folder, tmp_path, monkeypatch):
    def fail(self, train):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Trainer, "_train_step", fail)
    with pytest.raises(TrainingError, match=r"Tried to allocate 2.00 GiB\): lower train.batch_size \(2\)"):
        train(small_recipe(folder), tmp_path / "run")


def test_a_recipe_without_data_or_losses_is_refused(folder, tmp_path):
    with pytest.raises(RecipeError, match="names no data"):
        train(small_recipe(), tmp_path / "run")
    with pytest.raises(RecipeError, match="nothing to train"):
        train(small_recipe(folder, losses=()), tmp_path / "run")


def test_runs_of_either_precision_follow_each_other(folder, tmp_path):
    """Autocast leaves the weights in float32; "auto" is one of the two."""
    ends = {}
    for precision in ("fp32", "bf16", "auto"):
        recipe = small_recipe(folder)
        recipe = attrs.evolve(recipe, train=attrs.evolve(recipe.train, precision=precision, steps=2))
        ends[precision] = weights_of(train(recipe, tmp_path / precision))
    assert all(value.dtype == torch.float32 for value in ends["bf16"].values() if value.is_floating_point())
    differing = [not torch.equal(ends["fp32"][name], ends["bf16"][name]) for name in ends["fp32"]]
    assert any(differing)
    auto = ends["bf16"] if computes_bfloat16(torch.device("cpu")) else ends["fp32"]
    if not torch.cuda.is_available():
        assert_same_weights(ends["auto"], auto)
