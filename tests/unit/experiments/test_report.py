"""The page of an experiment, its parts, and the files that are written."""

import csv
import io
import re

import pytest
from balanced_html import assert_balanced
from experiment_folders import cell, experiment, figures_of

from perceptio.cli import main as command
from perceptio.errors import DataError, InputError
from perceptio.experiments.curves import TEXT_COLOR, Line, curves_svg, mean_of, smoothed
from perceptio.experiments.outputs import write_outputs
from perceptio.ops import page
from perceptio.serialize import to_json
from perceptio.settings import load_recipe, with_settings

FILES = ["table.md", "table.csv", "table.tex", "table.json", "report.html"]


@pytest.fixture(scope="module")
def recipes():
    tiny = load_recipe("perceptio_tiny")
    return {
        "base": to_json(tiny),
        "<mine>": to_json(with_settings(tiny, {"train.lr": 0.004, "train.seed": 7})),
    }


@pytest.fixture
def result(tmp_path, recipes):
    """Two variants: of the second one seed has failed."""

    def curve(start):
        lines = [
            {"step": step, "loss": start / step, "next_token": 1.0 / step, "lr": 0.1} for step in (1, 2, 3)
        ]
        return (*lines, {"step": 3, "validation.loss": start})

    base = [cell(tmp_path, "base", seed, "rrww", curve=curve(2), recipe=recipes["base"]) for seed in (0, 1)]
    mine = [
        cell(tmp_path, "<mine>", 0, "rrrw", curve=curve(3), recipe=recipes["<mine>"]),
        cell(tmp_path, "<mine>", 1, status="failed", error="Kernel <died>\nat step 3"),
    ]
    return experiment(*base, *mine, name="lr & seeds")


def test_every_file_is_written_and_the_page_needs_nothing_else(result, tmp_path):
    files = write_outputs(result, tmp_path / "out")
    assert [file.name for file in files] == FILES and all(file.stat().st_size for file in files)
    html = files[-1].read_text(encoding="utf-8")
    assert_balanced(html)
    links = re.findall(r'(?:src|href)="([^"]{1,20})', html)
    assert all(link.startswith("#") for link in links) and "<script" not in html and "@import" not in html
    for shown in (
        "<title>lr &amp; seeds</title>",
        "3 of 4 cells complete",
        "&lt;mine&gt;",
        "<pre>Kernel &lt;died&gt;\nat step 3</pre>",
        "+0.2500",
        "<code>train.lr</code></td><td><code>0.002</code></td><td><code>0.004</code>",
        "Validation</h3>",
    ):
        assert shown in html, shown
    assert "<code>train.seed</code>" not in html and "<mine>" not in html
    assert "`&lt;mine&gt;`" not in files[0].read_text() and "\\<mine>" in files[0].read_text()
    rows = list(csv.DictReader(io.StringIO(files[1].read_text())))
    assert [row["seeds"] for row in rows] == ["2", "1 of 2"]


def test_an_experiment_that_has_not_begun_has_a_page(tmp_path):
    files = write_outputs(experiment(cell(tmp_path, "base", 0)), tmp_path)
    assert "0 of 1 cells complete" in files[-1].read_text() and "<h2>Learning" not in files[-1].read_text()


def test_a_recipe_that_is_none_is_said(tmp_path):
    broken = cell(tmp_path, "base", 0, "rw")
    (broken.folder / "recipe.json").write_text("[]")
    with pytest.raises(
        DataError, match=r"recipe.json is no recipe: remove it, and run `perceptio ablate` again."
    ):
        write_outputs(experiment(broken), tmp_path)


def test_the_verb_writes_them_anew(result, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("perceptio.experiments.results.read", lambda folder: result)
    monkeypatch.setattr("sys.argv", ["perceptio", "report", str(tmp_path), "--figures", "color.*"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert not stopped.value.code
    assert [line.rpartition("/")[2] for line in capsys.readouterr().out.split()] == FILES
    assert "color.count" in (tmp_path / "table.md").read_text()
    with pytest.raises(InputError, match="No complete cell has the figure 'shape'"):
        write_outputs(result, tmp_path, ["shape"])


def test_figures_of_another_kind_have_plots_of_their_own(tmp_path):
    masks = {"ciou": 0.5, "ciou_interval": [0.4, 0.6], "count": 4}
    cells = [
        cell(tmp_path, name, seed, "rw", figures=figures_of("rw", referring=masks))
        for name in ("base", "mine")
        for seed in (0, 1)
    ]
    html = write_outputs(experiment(*cells), tmp_path)[-1].read_text()
    assert "<h3>color.accuracy</h3>" in html and "<h3>referring.ciou</h3>" in html


def test_a_forest_plot_has_zero_on_its_scale():
    """From 0 to 1 with a margin of 4 hundredths: 0 lies at 4/108 of the width."""
    mark = page.Mark(label="a", value=0.5, thick=(0.25, 0.75), thin=(0.0, 1.0), color="red", text="+0.5")
    html = page.forest([mark])
    assert f'class="zero" style="left:{100 * 0.04 / 1.08:.2f}%"' in html
    assert f'class="thick" style="left:{100 * 0.29 / 1.08:.2f}%;width:{100 * 0.5 / 1.08:.2f}%' in html
    assert re.findall(r'class="tick"[^>]*>([^<]+)<', html) == ["0", "+0.2", "+0.4", "+0.6", "+0.8", "+1"]
    flat = page.Mark(label="a", value=0.0, thick=None, thin=None, color="red", text="0")
    assert 'class="dot" style="left:50.00%' in page.forest([flat])


def test_ticks_are_round_numbers():
    assert page.ticks_between(-0.21, 0.11) == [-0.2, -0.1, 0.0, 0.1]
    assert page.ticks_between(-30, 900) == [0, 200, 400, 600, 800]


def test_curves_take_the_color_of_the_page():
    svg = curves_svg({"cost in $": [Line(curve=([1, 2], [3.0, 2.0]), color="#ff0000")]})
    assert "currentColor" in svg and TEXT_COLOR not in svg and "#ff0000" in svg


def test_means_are_of_the_steps_that_all_have():
    assert mean_of([([1, 2, 3], [1.0, 2.0, 3.0]), ([2, 3, 4], [4.0, 5.0, 6.0])]) == ([2, 3], [3.0, 4.0])
    assert smoothed(([1, 2, 3, 4, 5, 6], [1.0, 1, 1, 1, 1, 6])) == ([5, 6], pytest.approx([1.0, 2.0]))
    assert smoothed(([1, 2], [1.0, 3.0])) == ([2], [2.0])


def test_tables_and_numbers():
    assert page.percent(0.8125) == "81.2%"
    assert page.interval_text((0.5, 0.625)) == "50.0–62.5%"
    assert page.table(["a", "b"], [["x", "1"], ["y", "2"]], strong=1).count('class="strong"') == 1
    assert 'class="number"' not in page.table(["a", "b"], [["x", "1"]], numbers=False)
