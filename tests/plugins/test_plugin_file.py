"""The plugin of the documentation, written to a file, with a recipe beside it: the whole way, as a user goes it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small import scenes_folder

from perceptio.cli import main as command

ROOT = Path(__file__).parents[2]
RECIPE = """
import attrs
from names import NAME
from small import small_recipe

from perceptio import component


def recipe(bins: int = 8):
    recipe = small_recipe().with_stream("depth", tokenizer=component("depth:bins/bins", bins=bins))
    return attrs.evolve(recipe, name=NAME)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the page's plugin, a recipe, a module that the recipe imports, and scenes."""
    folder = tmp_path_factory.mktemp("a:place")
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    (folder / "bins.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0])
    (folder / "mine.py").write_text(RECIPE)
    (folder / "page.py").write_text(re.findall(r"```\n(# mine.py\n.*?)```", page, re.DOTALL)[0])
    (folder / "names.py").write_text('NAME = "with-bins"\n')
    scenes_folder(folder / "scenes")
    return folder


@pytest.fixture
def run(place, capsys, monkeypatch):
    """Run a verb in this process, in the folder."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", "")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["perceptio", *words])
        with pytest.raises(SystemExit) as stopped:
            command.main()
        printed = capsys.readouterr()
        return stopped.value.code or 0, printed.out, printed.err

    return run


def run_anew(place, *words):
    """Run a verb in a process of its own, in the folder: its exit status, and what it printed to stderr."""
    support = str(ROOT / "tests" / "support")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{support}", "PERCEPTIO_PLUGIN_FILES": ""}
    line = [sys.executable, "-m", "perceptio.cli.main", *words]
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


SETTINGS = ("--set", 'data.folders=["scenes"]', "--set", "train.steps=2", "--set", "train.warmup_steps=1")


def test_a_plugin_file_serves_every_verb(place, run):
    status, out, _ = run("--plugin", "bins.py", "components")
    assert status == 0 and re.search(rf"bins/bins +{place / 'bins.py'}", out)
    status, out, _ = run("--plugin", "bins.py", "explain", "mine.py", "--arg", "bins=4", *SETTINGS)
    assert status == 0 and "with-bins" in out
    assert re.search(rf"depth:bins/bins +{place / 'bins.py'}", out) and re.search(
        r"depth\.tokenizer +bins +4 ", out
    )
    assert run("--plugin", "bins.py", "explain", "page.py")[::2] == (0, "")
    status, out, err = run("--plugin", "bins.py", "train", "mine.py", "--out", "run", *SETTINGS)
    assert (status, err) == (0, "") and re.search(r"Try: perceptio --plugin '?/\S+/bins.py'? eval run", out)
    image = sorted((place / "scenes" / "images").iterdir())[0]
    depth = sorted((place / "scenes" / "depth").iterdir())[0]
    question = (
        "ask",
        "run",
        str(image),
        "Which point is closest?",
        "--point",
        "0.2,0.2",
        "--point",
        "0.8,0.8",
    )
    assert run_anew(place, "--plugin", "bins.py", *question) == (0, "")
    status, err = run_anew(place, *question)
    assert status == 2 and "needs the component 'depth:bins/bins' of the plugin" in err
    assert (
        "not installed here: install it, or name its file with perceptio --plugin FILE, or from Python in"
        in err
    )
    assert run("--plugin", "bins.py", "tokenize", "run", str(depth))[::2] == (0, "")


def test_an_error_inside_a_plugin_at_work_shows_its_traceback_and_says_where(place, run):
    text = (place / "bins.py").read_text()
    (place / "broken.py").write_text(text.replace("filled_B1HW, _ =", "1 / 0\n        filled_B1HW, _ ="))
    words = ("train", "mine.py", "--set", "streams.depth.tokenizer=broken/bins", "--out", "broken", *SETTINGS)
    status, _, err = run("--plugin", "bins.py", "--plugin", "broken.py", *words)
    assert status == 2 and "Traceback" in err and "ZeroDivisionError: division by zero" in err
    assert re.search(
        r"Error: Bins.encode in .*/broken.py, line \d+, was at work, which is not perceptio's", err
    )


def test_what_is_wrong_with_a_plugin_s_part_names_it_and_who_offers_it(place, run):
    text = (place / "bins.py").read_text()
    (place / "liar.py").write_text(text.replace(".clamp(0, self.spec.codebook_size - 1)", ".clamp(0) + 99"))
    (place / "opens.py").write_text(
        text.replace("return Bins(self.spec)", 'return Bins(open("codebook.pt"))')
    )
    (place / "other.py").write_text(
        text.replace("return Bins(self.spec)", "return Bins(BinsConfig(bins=3).spec)")
    )
    (place / "old.py").write_text(text.replace("(2, 0)", "(1, 0)"))
    said = {
        "liar": r"depth:liar/bins \(.*/liar.py\): Bins.encode made codes that go from .* and not from 0 to 7",
        "opens": r"build of depth:opens/bins \(.*/opens.py\) raised FileNotFoundError.* It makes shapes only",
        "other": r"depth:other/bins \(.*/other.py\): the spec of its config and that of what it "
        r"builds are not the same \(codebook_size is 8 and 3\)",
        "old": r"There is no .*component 'old/bins'. The plugin old \(.*/old.py\) was set aside: BinsConfig was",
    }
    for name, message in said.items():
        recipe = (
            "train",
            "mine.py",
            "--arg",
            "bins=8",
            "--set",
            f"streams.depth.tokenizer={name}/bins",
            "--out",
            name,
            *SETTINGS,
        )
        status, _, err = run("--plugin", "bins.py", "--plugin", f"{name}.py", *recipe)
        assert status == 2 and re.search(message, err), err
        assert "Traceback" not in err
