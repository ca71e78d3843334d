"""Plugins that are installed as a stranger would install them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def copied(tmp_path_factory):
    """Copy an example without what installing it leaves in its folder, by which it would be found as installed."""

    def copy(example):
        left = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        return shutil.copytree(example, tmp_path_factory.mktemp("copy") / example.name, ignore=left)

    return copy


@pytest.fixture(scope="module")
def install(tmp_path_factory, copied):
    """Install an example into a folder of its own: the environment in which it is found."""

    def installed(example):
        target = tmp_path_factory.mktemp("site")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, "--no-index", "--target", str(target), str(copied(example))], check=True)
        paths = [str(target), str(ROOT / "tests" / "support"), str(ROOT)]
        return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    return installed


@pytest.fixture
def own_tests():
    """Run an example's own tests where it is installed: what pytest says of them."""

    def passed(example, environment):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(example)]
        done = subprocess.run(
            [*command, "tests"], cwd=example, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return passed
