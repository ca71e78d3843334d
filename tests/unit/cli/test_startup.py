"""What may be imported by a verb that computes nothing, in processes of their own."""

import os
import subprocess
import sys

import pytest

from perceptio.cli import main
from perceptio.cli.startup import KERNELS_KEPT

FRAMEWORKS = {"torch", "numpy", "transformers", "safetensors"}
FOREIGN_PARTS = {
    "transformers",
    "torchvision",
    "open_clip",
    "sam2",
    "hydra",
    "peft",
    "vector_quantize_pytorch",
}
NEVER_TO_EXPLAIN = {
    *("xformers", "open_clip", "timm", "tensorboard", "scipy", "sklearn", "pandas", "matplotlib"),
    *("datasets", "torch.utils.tensorboard", "transformers.trainer"),
}

IMPORT = "import perceptio, perceptio.cli.main"
HELP = """
import perceptio.cli.main as command
sys.argv = ["perceptio", "--help"]
try: command.main()
except SystemExit: pass
"""
RECIPES = HELP.replace("--help", "recipes")
DISCOVER = """
import perceptio
perceptio.Registry.discover()
for name in ("perceptio_tiny", "perceptio_1b", "perceptio_4b", "perceptio_8b"):
    perceptio.load_recipe(name)
"""
EXPLAIN = """
import gc
import perceptio.cli.main as command
collections = []
gc.callbacks.append(lambda phase, info: collections.append(info) if "torch" in sys.modules else None)
sys.argv = ["perceptio", "explain", "perceptio_1b"]
try: command.main()
except SystemExit: pass
# One may end the pause, of what the verb itself left; importing and building alone would be some fifteen hundred.
assert len(collections) <= 5, len(collections)
"""


@pytest.mark.parametrize(
    ("code", "left_out"),
    [
        (IMPORT, FRAMEWORKS),
        (HELP, FRAMEWORKS),
        (RECIPES, FRAMEWORKS),
        (DISCOVER, FOREIGN_PARTS),
        (EXPLAIN, NEVER_TO_EXPLAIN),
    ],
    ids=["import", "help", "recipes", "discover", "explain"],
)
def test_nothing_is_imported_that_is_not_used(code, left_out):
    check = f"imported = {left_out!r} & set(sys.modules); assert not imported, imported"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{check}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("asked", "kept"), [(None, KERNELS_KEPT), ("1024", "1024")])
def test_the_cache_of_kernels_is_bounded_unless_a_user_has_said_how_large(monkeypatch, asked, kept):
    monkeypatch.setattr(sys, "argv", ["perceptio", "--help"])
    monkeypatch.setattr(os, "environ", {} if asked is None else {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": asked})
    with pytest.raises(SystemExit):
        main.main()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == kept
