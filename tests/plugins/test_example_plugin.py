"""The example plugin, installed as a stranger would install it, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin_bins"
JOURNEY = """
import sys
from pathlib import Path
import attrs, torch
from perceptio import build_model, load, save
from perceptio.interfaces import DepthConvention, Kind
from perceptio.registry import Registry
from perceptio_bins import BinsDepthConfig
from small import small_recipe

assert Registry.discover().provider(Kind.DEPTH, "bins/bins") == "perceptio-bins"
depth = BinsDepthConfig(bins=16, grid=(4, 4), image_size=(16, 16), convention=DepthConvention(near_m=1.0, far_m=16.0))
model = build_model(small_recipe().with_stream("depth", tokenizer=depth))
save(model, sys.argv[1])
loaded = load(sys.argv[1])
assert loaded.recipe.stream("depth").tokenizer == depth
answer = loaded.ask(torch.rand(3, 20, 20), "Which point is closest?", points=[(0.2, 0.2), (0.8, 0.8)])
print(answer.tokens)
"""


@pytest.fixture(scope="module")
def installed(install):
    return install(EXAMPLE)


def test_it_is_found_composed_saved_and_loaded_by_name(installed, tmp_path):
    subprocess.run([sys.executable, "-c", JOURNEY, str(tmp_path / "model")], env=installed, check=True)


def test_it_passes_the_conformance_suite(installed, own_tests):
    said = own_tests(EXAMPLE, installed)
    assert "passed" in said and "failed" not in said


def test_a_checkpoint_says_which_plugin_it_needs(installed, tmp_path):
    subprocess.run([sys.executable, "-c", JOURNEY, str(tmp_path / "model")], env=installed, check=True)
    from perceptio import load
    from perceptio.errors import CheckpointError

    with pytest.raises(
        CheckpointError,
        match="'depth:bins/bins' of the plugin 'perceptio-bins', which is not installed",
    ):
        load(tmp_path / "model")
