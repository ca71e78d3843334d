"""Training as a user meets it: a folder, metrics, resuming to the bit, and what stops it."""

import json
import os
import shutil
import signal

import attrs
import pytest
import torch
from pretrained import PLUGIN, PretrainedVisionConfig, write_base
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small import scenes_folder, small_recipe

from perceptio.errors import CheckpointError, RecipeError, TrainingError
from perceptio.model.perception_model import build_model, load
from perceptio.ops.files import folder_lock
from perceptio.ops.interrupts import Stopped
from perceptio.ops.precision import computes_bfloat16
from perceptio.recipe import TrainConfig
from perceptio.settings import with_settings
from perceptio.training.codebook import with_codebooks
from perceptio.training.objective import Objective
from perceptio.training.optimizer import Optimizers
from perceptio.training.run_folder import RunFolder, RunState
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
    shown = {
        "next_token",
        "depth_token",
        "segmentation_mask_bce",
        "depth_cell_codes",
        "lr",
        "loss",
        "peak_resident_gib",
    }
    assert shown <= lines[-1].keys()
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    assert_same_weights(weights_of(load(tmp_path / "run")), weights_of(model))


def test_training_moves_what_it_names_and_nothing_else(folder, tmp_path):
    recipe = small_recipe(folder)
    recipe = attrs.evolve(recipe, train=attrs.evolve(recipe.train, train=("language.trunk",)))
    after = weights_of(train(recipe, tmp_path / "run"))
    torch.manual_seed(recipe.train.seed)
    before = weights_of(
        build_model(with_codebooks(recipe, {"depth": tmp_path / "run" / "tokenizers" / "depth"}))
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("language.") and "embedding" not in name for name in moved)


@pytest.mark.parametrize("streams", ["all", "random_subset"])
def test_a_resumed_run_ends_bit_identical(folder, tmp_path, streams):
    recipe = small_recipe(folder)
    recipe = attrs.evolve(
        recipe,
        train=attrs.evolve(recipe.train, muon={"language.trunk": 0.02}),
        data=attrs.evolve(recipe.data, streams=streams),
    )
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
    recipe = attrs.evolve(
        recipe, train=attrs.evolve(recipe.train, train=trained, save_pretrained_weights=False)
    )
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
    assert any(name.startswith("streams") for name in recipe.train.train)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", progress=stop_after_two)
    resumed = train(recipe, tmp_path / "cut", resume=True)
    assert_same_weights(weights_of(whole), weights_of(resumed))


def test_a_run_goes_on_though_a_setting_was_declared_since(folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(small_recipe(folder), tmp_path / "cut", progress=stop_after_two)
    path = tmp_path / "cut" / "checkpoint" / "training.json"
    state = json.loads(path.read_text())
    assert state["identity"].pop("data.too_long") == "refuse"
    path.write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="data.too_long was not there and is 'skip'"):
        train(with_settings(small_recipe(folder), {"data.too_long": "skip"}), tmp_path / "cut", resume=True)
    train(small_recipe(folder), tmp_path / "cut", resume=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_either_signal_leaves_a_checkpoint(folder, tmp_path, number, status):
    def stop(progress: Progress) -> None:
        if progress.step == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped) as stopped:
        train(small_recipe(folder), tmp_path / "run", progress=stop)
    assert 128 + stopped.value.signal == status
    assert json.loads((tmp_path / "run" / "checkpoint" / "training.json").read_text())["step"] == 2


def test_bookkeeping_and_places_do_not_keep_a_run_from_going_on(folder, tmp_path):
    """Nor does the number of threads that draw change what is drawn."""
    recipe = small_recipe(folder)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", progress=stop_after_two)
    moved = shutil.copytree(folder, tmp_path / "moved")
    changes = {
        "name": "renamed",
        "train.save_every": 1,
        "train.log_every": 2,
        "train.workers": 3,
        "data.folders": [{"path": str(moved)}],
    }
    resumed = train(with_settings(recipe, changes), tmp_path / "cut", resume=True)
    assert_same_weights(weights_of(whole), weights_of(resumed))
    assert load(tmp_path / "cut").recipe.data.folders[0].path == str(moved)


def test_other_data_at_the_same_place_do_not_resume(folder, tmp_path):
    data = shutil.copytree(folder, tmp_path / "data")
    recipe = small_recipe(data)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=stop_after_two)
    (picture := next((data / "images").iterdir())).write_bytes(picture.read_bytes() + b"\0")
    with pytest.raises(
        CheckpointError, match=r"cannot be resumed so: data.folders.0 holds other data\. Set these"
    ):
        train(recipe, tmp_path / "run", resume=True)


@pytest.mark.parametrize("schedule", ["constant", "stable_decay"])
def test_a_run_is_made_longer_where_its_learning_rates_stay(folder, tmp_path, schedule):
    recipe = with_settings(small_recipe(folder), {"train.schedule": schedule, "train.decay": 0.5})
    longer = with_settings(recipe, {"train.steps": 8})
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=stop_after_two)
    extended = train(longer, tmp_path / "run", resume=True)
    assert_same_weights(weights_of(train(longer, tmp_path / "whole")), weights_of(extended))


def test_a_cosine_is_not_made_longer(folder, tmp_path):
    recipe = small_recipe(folder)
    train(recipe, tmp_path / "run")
    with pytest.raises(
        CheckpointError, match=r"train.steps was 6 and is 8, so that the steps done so far \(6\) would"
    ):
        train(with_settings(recipe, {"train.steps": 8}), tmp_path / "run", resume=True)
    with pytest.raises(
        CheckpointError, match=r"train.steps is 4, below the number of steps done so far \(6\)"
    ):
        train(with_settings(recipe, {"train.steps": 4}), tmp_path / "run", resume=True)


def test_nothing_to_resume_and_something_to_lose_are_refused(folder, tmp_path):
    recipe = small_recipe(folder)
    with pytest.raises(CheckpointError, match="is a folder of data: choose another --out"):
        train(recipe, folder)
    with pytest.raises(CheckpointError, match="rnu holds no checkpoint to resume; look at --out"):
        train(recipe, tmp_path / "rnu", resume=True)
    assert not (tmp_path / "rnu").exists()
    train(recipe, tmp_path / "run", resume="auto")
    with pytest.raises(CheckpointError, match="run holds a checkpoint already; give --resume to go on"):
        train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run", resume="auto")
    with pytest.raises(CheckpointError, match="could not be written .File name too long"):
        train(recipe, tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": None}, "step is None; it must be int"),
        ({"step": 7}, "step 7 of 6"),
        ({"identity": []}, "identity is .*; it must be Mapping"),
        ({"schedule": {"nope": 1}}, "unexpected keyword argument 'nope'"),
        ({"schedule": {"steps": "x"}}, "schedule.steps is 'x'; it must be int"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
    ],
)
def test_a_state_that_is_none_is_refused(tmp_path, changes, message):
    run = RunFolder(tmp_path)
    run.checkpoint.mkdir()
    state = {"step": 2, "steps": 6, "identity": {}, "schedule": {}}
    (run.checkpoint / "training.json").write_text(json.dumps(state))
    assert run.state() == RunState(**state)
    (run.checkpoint / "training.json").write_text(json.dumps(state | changes))
    with pytest.raises(
        CheckpointError, match=f"no training state of this version .*{message}.*; it cannot be"
    ):
        run.state()


@pytest.mark.parametrize("line", ['{"step": "5"}', '{"loss": 1}', "null", "[5]"])
def test_a_log_of_something_else_is_refused(tmp_path, line):
    (tmp_path / METRICS).write_text(f"{line}\n")
    with pytest.raises(CheckpointError, match="has the line .*, which is no metrics: move it away"):
        RunFolder(tmp_path).begin_log(0)


def test_a_run_that_would_learn_nothing_is_refused(folder, tmp_path):
    recipe = with_settings(small_recipe(folder), {"train.train": "[]"})
    with pytest.raises(RecipeError, match=r"trains no parameter group; name some in train\.train"):
        train(recipe, tmp_path / "run")
    model = build_model(recipe)
    with pytest.raises(RecipeError, match="hold nothing that could be trained; name others"):
        Optimizers(model, TrainConfig(train=("streams.segmentation.tokenizer",)))


def test_a_folder_is_one_process_s(folder, tmp_path):
    with (
        folder_lock(tmp_path / "run"),
        pytest.raises(CheckpointError, match="Another process trains in .*run: wait"),
    ):
        train(small_recipe(folder), tmp_path / "run")


def test_half_a_line_of_the_log_is_dropped_and_said(folder, tmp_path):
    recipe, said = small_recipe(folder), []
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=stop_after_two)
    with (tmp_path / "run" / METRICS).open("a") as log:
        log.write('{"step": 3, "next_to')
    train(recipe, tmp_path / "run", resume=True, say=said.append)
    assert any('ended in half a line, \'{"step": 3, "next_to\', which is dropped' in one for one in said)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def cut(folder, tmp_path_factory):
    """A run that ended after two steps."""
    run = tmp_path_factory.mktemp("cut") / "run"
    with pytest.raises(KeyboardInterrupt):
        train(small_recipe(folder), run, progress=stop_after_two)
    return run


@pytest.mark.parametrize(
    "changed",
    [
        lambda held: {name: value for name, value in held.items() if not name.endswith("/exp_avg")},
        lambda held: {name: value.double() for name, value in held.items()},
        lambda held: {name: value[..., None] for name, value in held.items()},
        lambda held: {name: value * float("nan") for name, value in held.items()},
    ],
    ids=["a moment is missing", "another precision", "another shape", "NaN"],
)
def test_a_state_that_an_optimizer_does_not_keep_is_refused(folder, cut, tmp_path, changed):
    run = shutil.copytree(cut, tmp_path / "run")
    path = run / "checkpoint" / "optimizer.safetensors"
    save_file(changed(load_file(path)), path)
    with pytest.raises(
        CheckpointError, match="has another state for .* than AdamW keeps; train again without"
    ):
        train(small_recipe(folder), run, resume=True)


def test_what_the_first_save_would_fail_at_is_refused_at_the_start(folder, tmp_path, monkeypatch):
    recipe, steps = small_recipe(folder), []
    (tmp_path / "acme.py").write_text(PLUGIN)
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", str(tmp_path / "acme.py"))
    vision = PretrainedVisionConfig(weights=write_base(tmp_path / "base")["vision"])
    all_trains = with_settings(attrs.evolve(recipe, vision=vision), {"train.save_pretrained_weights": False})
    with pytest.raises(CheckpointError, match="holds nothing frozen from pretrained weights"):
        train(all_trains, tmp_path / "a", progress=steps.append)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "checkpoint").write_text("a file")
    with pytest.raises(CheckpointError, match="b could not be written .*a file is there"):
        train(recipe, tmp_path / "b", resume="auto", progress=steps.append)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(CheckpointError, match=r"takes 0.0 GiB, and the disk of .*c has 0.0 left: make room"):
        train(recipe, tmp_path / "c", progress=steps.append)
    assert not steps


def test_the_loss_that_is_logged_is_the_objective_however_a_step_is_cut(folder, tmp_path):
    recipe = with_settings(small_recipe(folder), {"train.grad_accumulation": 2})
    train(recipe, tmp_path / "run")
    for line in (tmp_path / "run" / METRICS).read_text().splitlines():
        values = json.loads(line)
        plain = sum(weighted.weight * values.get(weighted.loss.term, 0.0) for weighted in recipe.losses)
        assert values["loss"] == pytest.approx(plain, rel=1e-5)


def test_another_recipe_does_not_resume_the_checkpoint(folder, tmp_path):
    recipe = small_recipe(folder)
    train(recipe, tmp_path / "run")
    other = with_settings(recipe, {"train.lr": 5e-4, "losses.segmentation_dice.weight": 3.0, "data.turns": 1})
    with pytest.raises(CheckpointError) as error:
        train(other, tmp_path / "run", resume=True)
    assert "train.lr was 0.001 and is 0.0005" in str(error.value)
    assert "data.turns was 2 and is 1" in str(error.value)
    assert "losses.segmentation_dice.weight was" in str(error.value) and "and is 3.0;" in str(error.value)
    assert "seed" not in str(error.value)


def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_saved(folder, tmp_path, monkeypatch):
    recipe = small_recipe(folder)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=stop_after_two)
    before = (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes()
    whole = Objective.forward

    def broken(self, output, batch, counts):
        terms = whole(self, output, batch, counts)
        return attrs.evolve(terms, total=terms.total * float("nan"))

    monkeypatch.setattr(Objective, "forward", broken)
    with pytest.raises(TrainingError, match="At step 3 of 6 .*loss stopped being finite.*lower train.lr"):
        train(recipe, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").read_bytes() == before


def test_out_of_memory_says_what_to_lower(folder, tmp_path, monkeypatch):
    def fail(self, micro, counts):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Trainer, "_train_step", fail)
    with pytest.raises(
        TrainingError, match=r"Tried to allocate 2.00 GiB\): lower train.micro_batch_size \(2\)"
    ):
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
