"""Training, resuming, answering on a GPU."""

import json
import shutil
import subprocess
import sys
import warnings

import attrs
import pytest
import torch
from small import scenes_folder, small_recipe

from perceptio.interfaces import GenerationSettings, Turn
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import build_model
from perceptio.training.trainer import train

pytestmark = pytest.mark.gpu


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def recipe(tmp_path, device):
    if device.type == "cpu" and torch.cuda.is_available():
        pytest.skip("training takes the GPU where there is one")
    return small_recipe(scenes_folder(tmp_path / "scenes"))


def with_training(recipe, **settings):
    return attrs.evolve(recipe, train=attrs.evolve(recipe.train, **settings))


def test_bfloat16_loses_what_float32_loses(recipe, tmp_path):
    runs = {}
    for precision in ("fp32", "bf16"):
        train(with_training(recipe, precision=precision), tmp_path / precision)
        runs[precision] = metrics(tmp_path / precision)
    assert len(runs["bf16"]) == recipe.train.steps
    for exact, rounded in zip(runs["fp32"], runs["bf16"], strict=True):
        assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.05), exact["step"]


def test_a_resumed_run_goes_on_as_if_nothing_had_been(recipe, tmp_path):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"

    def keep_the_third_step(now):
        if now.step == 4:
            shutil.copytree(straight, resumed)

    train(recipe, straight, progress=keep_the_third_step)
    assert json.loads((resumed / "checkpoint" / "training.json").read_text())["step"] == 3
    train(recipe, resumed, resume=True)
    whole, again = metrics(straight), metrics(resumed)
    assert [line["step"] for line in again] == [line["step"] for line in whole]
    for one, other in zip(whole, again, strict=True):
        # Sums over atomics come in any order on a GPU; what is lost in a checkpoint would be far more.
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4), one["step"]


def test_the_command_asks_on_the_device(tmp_path, device):
    save(build_model(small_recipe()), tmp_path / "model")
    image = next((scenes_folder(tmp_path / "scenes", count=1) / "images").iterdir())
    command = [sys.executable, "-m", "perceptio.cli.main", "ask", str(tmp_path / "model"), str(image)]
    command += ["Which point is closest to the camera?", "--point", "0.2,0.3", "--point", "0.8,0.5"]
    command += ["--perceive", "depth", "--device", device.type, "--out", str(tmp_path / "answer")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / "answer" / "answer.json").read_text())
    assert len(answer["codes"]["depth"]) == 16 and len(answer["readout"]) == 2


def waits_of_generation(model, device, codes_per_step):
    """How often one answer waits for the device."""
    recipe = model.recipe.with_stream("depth", codes_per_step=codes_per_step)
    sibling = build_model(recipe, load_weights=False).to(device).eval()
    sibling.load_state_dict(model.state_dict())
    image = torch.rand(3, 32, 32, device=device)
    settings = GenerationSettings(streams=("depth",), force=("depth",), max_new_tokens=4)
    question, points = "Which point is closest to the camera?", ((0.2, 0.3), (0.8, 0.5))
    turn = Turn(question=question, answer="", task="relative_depth", points=points)
    with torch.inference_mode(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        generate(sibling, [turn], [image], [0], settings)  # Kernels and layouts are prepared once.
        caught.clear()
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            written = generate(sibling, [turn], [image], [0], settings)
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    assert written.streams["depth"].codes_BOL.shape == (1, 1, 16)
    return sum("synchroniz" in str(warning.message) for warning in caught)


def test_writing_more_codes_one_by_one_waits_for_the_device_no_more_often(device):
    model = build_model(small_recipe()).to(device).eval()
    assert waits_of_generation(model, device, 1) == waits_of_generation(model, device, 4)
