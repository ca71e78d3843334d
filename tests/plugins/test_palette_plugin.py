"""The example that brings a stream and a task: installed, and as plugin files through every verb."""

import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from small import SIZE, scenes_folder

from perceptio.cli import main as command

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin_palette"
FILES = [EXAMPLE / "perceptio_palette" / f"{name}.py" for name in ("palette", "color_questions")]


@pytest.mark.parametrize(
    ("file", "most"), zip(FILES, (80, 60), strict=True), ids=lambda value: str(value)[-10:]
)
def test_its_files_are_short_and_the_readme_says_how_short(file, most):
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= most
    assert f"({file.relative_to(EXAMPLE)}), {lines} lines" in (EXAMPLE / "README.md").read_text()


def test_it_passes_its_own_tests_where_it_is_installed(install, own_tests):
    said = own_tests(EXAMPLE, install(EXAMPLE))
    assert int(re.search(r"(\d+) passed", said)[1]) >= 25


def test_a_stream_and_a_task_of_files_are_trained_shown_and_scored(copied, tmp_path, monkeypatch, capsys):
    example = copied(EXAMPLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PERCEPTIO_PLUGIN_FILES", "")
    monkeypatch.setenv("COLUMNS", "200")
    scenes_folder(tmp_path / "scenes", count=6)
    (tmp_path / "mine.py").write_text("from small import small_recipe as recipe\n")
    plugins = [word for file in FILES for word in ("--plugin", str(example / file.relative_to(EXAMPLE)))]

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["perceptio", *plugins, *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            command.main()
        printed = capsys.readouterr()
        assert not stopped.value.code, printed.err
        return printed.out

    recipe = (example / "palette_tiny.py", "--arg", "base=mine.py")
    steps = ("--set", "train.steps=2", "--set", "train.warmup_steps=1", "--set", 'data.folders=["scenes"]')
    assert re.search(
        r"palette +27 tokens an image: 25 codes of 64, 5 a step", run("explain", *recipe, *steps)
    )
    run("train", *recipe, *steps, "--out", "run")
    logged = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {
        "palette_marker",
        "palette_token",
        "palette_count",
        "palette_soft_reconstruction",
    } <= logged.keys()

    image = sorted((tmp_path / "scenes" / "images").iterdir())[0]
    run("ask", "run", image, "What color is most of the image?", "--perceive", "palette", "--out", "asked")
    answer = json.loads((tmp_path / "asked" / "answer.json").read_text())
    assert answer["tokens"][0] == "<palette_start>" and len(answer["codes"]["palette"]) == 25
    assert Image.open(tmp_path / "asked" / "palette.png").size == (SIZE, SIZE)

    run("eval", "run", "--data", "scenes")
    (figures,) = json.loads((tmp_path / "run" / "metrics.json").read_text()).values()
    assert figures["palette_map"]["count"] == 6 and 0 <= figures["palette_map"]["absolute_error"] <= 1
    assert figures["dominant_color"]["count"] == 6
