"""Two processes on the CPU, as torchrun starts them: one run, and one end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest
from small import scenes_folder, small_recipe

from perceptio.errors import TrainingError
from perceptio.model.perception_model import load
from perceptio.ops.ranks import Ranks
from perceptio.training.trainer import METRICS, train

SUPPORT = Path(__file__).parents[2] / "support"
BOUND_S = 120
"""Far more than any of these takes on a busy machine, and far less than what a process waits for a silent peer."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes")


def two_ranks(folder, out, what="nothing"):
    """Run two processes to their end; the status of torchrun, and what it said."""
    command = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    paths = (str(SUPPORT), str(Path.cwd()))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    script = (str(SUPPORT / "train_ranks.py"), str(folder), str(out), what)
    done = subprocess.run(
        [*command, *script], env=environment, capture_output=True, text=True, timeout=BOUND_S
    )
    return done.returncode, done.stderr


def logged(out):
    return [json.loads(line) for line in (out / METRICS).read_text().splitlines()]


@pytest.fixture(scope="module")
def both(folder, tmp_path_factory):
    """A run of two processes, undisturbed."""
    out = tmp_path_factory.mktemp("ranks") / "both"
    status, said = two_ranks(folder, out)
    assert status == 0, said
    return out


def test_two_processes_log_what_one_logs_of_the_same_samples(folder, both, tmp_path):
    recipe = small_recipe(folder)
    recipe = attrs.evolve(recipe, train=attrs.evolve(recipe.train, grad_accumulation=2))
    train(recipe, tmp_path / "one")
    one, two = logged(tmp_path / "one"), logged(both)

    assert [line["step"] for line in two] == [line["step"] for line in one] == [1, 2, 3, 4, 5, 6]
    machine = {"seconds_per_step", "peak_resident_gib"}
    for line, other in zip(one, two, strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - machine:
            assert other[name] == pytest.approx(line[name], rel=2e-3, abs=1e-4), (line["step"], name)
        plain = sum(weighted.weight * other.get(weighted.loss.term, 0.0) for weighted in recipe.losses)
        assert other["loss"] == pytest.approx(plain, rel=1e-5)
    assert len(list((both / "tensorboard").iterdir())) == 1
    for (name, value), other in zip(
        load(tmp_path / "one").named_parameters(), load(both).parameters(), strict=True
    ):
        assert value.sub(other).abs().max() < 2e-3, name


def test_a_signal_to_one_process_stops_both_at_one_step_and_they_go_on(folder, both, tmp_path):
    _, said = two_ranks(folder, tmp_path / "cut", "SIGTERM")
    assert "exitcode  : 143" in said  # Of the first to leave; torchrun ends the other.
    assert json.loads((tmp_path / "cut" / "checkpoint" / "training.json").read_text())["step"] == 2
    ended, said = two_ranks(folder, tmp_path / "cut")
    assert ended == 0, said
    for value, other in zip(load(tmp_path / "cut").parameters(), load(both).parameters(), strict=True):
        assert value.equal(other)
    assert [line["step"] for line in logged(tmp_path / "cut")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("broken", ["Process 1 of 2 failed: images/7.png cannot be read.", "images/7.png cannot be read."]),
        ("gone", ["Another of the 2 processes ended in the middle of a step; its own message says why."]),
    ],
)
def test_one_failure_ends_both_processes(folder, tmp_path, what, said):
    started = time.monotonic()
    status, errors = two_ranks(folder, tmp_path / "run", what)
    assert status != 0 and time.monotonic() - started < BOUND_S
    for rank, sentence in enumerate(said):
        left = tmp_path / f"run.{rank}"
        assert left.exists(), errors
        assert left.read_text().startswith(sentence)


def test_another_number_of_processes_does_not_resume(folder, both):
    with pytest.raises(Exception, match="processes was 2 and is 1"):
        train(small_recipe(folder), both, resume=True)


def test_accelerate_s_launcher_for_cpus_is_told_apart_from_several_processes(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(
        TrainingError, match="asked for several processes and has started one: on CPUs, start"
    ):
        Ranks()
