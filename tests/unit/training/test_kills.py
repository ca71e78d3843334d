"""Trainings that are killed, or run out of disk, and go on as if nothing had been."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KILLS = ROOT / "tests" / "support" / "kills.py"


def run(folder, *arguments, before=()):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*before, sys.executable, KILLS, folder, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("{\n") :])


def test_a_killed_training_goes_on_to_the_bit(tmp_path, request):
    kills = request.config.getoption("--kills")
    found = run(tmp_path, "--kills", kills, "--seed", request.config.getoption("--seed"))
    assert found["kills"] == kills and found["status"] == 0 and not found["unreadable"], found
    assert found["same"] == {"weights": True, "optimizer": True, "metrics": True, "left": True}, found
    assert not found["beside"]


def test_a_disk_that_fills_leaves_the_last_checkpoint_and_a_sentence(tmp_path):
    before = () if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")
    probe = [*before, "mount", "-t", "tmpfs", "tmpfs", tmp_path]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("This user may not mount a small disk here.")
    subprocess.run(["umount", tmp_path], capture_output=True, check=False)
    found = run(tmp_path, "--kills", 0, before=before)
    assert found["statuses"] == [2, 0] and found["readable"] == 0, found
    assert (
        "run/checkpoint could not be written (the disk is full): make room. What was there" in found["said"]
    )
    assert "Traceback" not in found["said"] and not [
        n for n in found["before"] if n.startswith(".checkpoint")
    ]
    assert found["same"] == {"weights": True, "optimizer": True, "metrics": True, "left": True}, found
