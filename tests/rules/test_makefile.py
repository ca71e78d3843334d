"""The makefile reads, and says what its targets are for."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(*words):
    # The tests may have been started by make themselves, which would speak through its variables.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_every_target_is_explained_and_can_be_planned():
    said = make("help")
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = set(phony[1].split()) - {"help", "clean"}
    assert {line.split()[1] for line in said.splitlines()} == targets and len(targets) > 5
    for target in targets:
        make("--dry-run", target)
