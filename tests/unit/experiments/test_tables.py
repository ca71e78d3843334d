"""One table in four forms, by hand."""

import csv
import io
import json
import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.evaluation.comparison import SeedComparison
from perceptio.experiments.contrasts import Contrast
from perceptio.experiments.renderers import (
    LATEX,
    RENDERERS,
    csv_text,
    json_text,
    latex,
    latex_text,
    markdown,
    markdown_text,
)
from perceptio.experiments.summary import Estimate
from perceptio.experiments.tables import Column, Table, Unfinished

COLUMNS = (
    Column(name="variant", kind="text"),
    Column(name="seeds", kind="text"),
    Column(name="color.accuracy", kind="estimate"),
    Column(name="color.accuracy", kind="difference"),
    Column(name="seconds", kind="seconds"),
    Column(name="parameters", kind="count"),
)
BASE = Estimate(value=0.7512, interval=(0.7312, 0.7712), over="seeds", by_seed={0: 0.75, 1: 0.7524})
MINE = Estimate(value=0.8, interval=(0.71, 0.87), over="questions", by_seed={0: 0.8})
DIFFERENCE = Contrast(
    value=0.05,
    of_questions=(-0.004, 0.104),
    over_seeds=None,
    by_seed={0: 0.05},
    pairs={0: SeedComparison(count=100, first_right=75, second_right=80, first_alone=1, second_alone=6)},
)
TABLE = Table(
    title="a grid",
    baseline="base",
    columns=COLUMNS,
    rows=(
        ("base", "2", BASE, None, 61.4, 2_102_682),
        ("my_variant", "1 of 2", MINE, DIFFERENCE, 9.25, 1000),
        ("late", "0 of 2", None, None, None, None),
    ),
    unfinished=(Unfinished(variant="late", seed=0, status="failed", error="RuntimeError: 100% of | lost"),),
    notes=("late has no seed.",),
)


def test_markdown():
    lines = markdown(TABLE).splitlines()
    assert lines[0] == "# a grid"
    assert lines[2:7] == [
        "| variant | seeds | color.accuracy | Δ color.accuracy | seconds | parameters |",
        "| :--- | :--- | ---: | ---: | ---: | ---: |",
        "| base | 2 | 0.751 ± 0.020 | – | 61 | 2,102,682 |",
        "| my_variant | 1 of 2 | 0.800 (0.710–0.870) | +0.050 [-0.004, +0.104], p = 0.12 | 9.2 | 1,000 |",
        "| late | 0 of 2 | – | – | – | – |",
    ]
    assert lines[8].startswith("Mean ± half of the 95% interval over seeds, by Student's t. In parentheses:")
    assert "Δ ±" not in lines[8]
    assert (
        "- late, seed 0: failed: RuntimeError: 100% of \\| lost" in lines
        and lines[-1] == "- late has no seed."
    )


def test_latex():
    lines = latex(TABLE).splitlines()
    assert lines[:9] == [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        r"variant & seeds & color.accuracy & $\Delta$ color.accuracy & seconds & parameters \\",
        r"\midrule",
        r"base & 2 & 0.751 $\pm$ 0.020 & -- & 61 & 2,102,682 \\",
        r"my\_variant & 1 of 2 & 0.800 (0.710--0.870) & $+0.050$ {[}$-0.004$, $+0.104$], p = 0.12 & 9.2 & 1,000 \\",
        r"late & 0 of 2 & -- & -- & -- & -- \\",
        r"\bottomrule",
    ]
    assert r"\par{\footnotesize late, seed 0: failed: RuntimeError: 100\% of \textbar{} lost.\par}" in lines


def test_csv_has_every_number_and_the_same_columns_in_each_row():
    rows = list(csv.DictReader(io.StringIO(csv_text(TABLE))))
    assert [row["variant"] for row in rows] == ["base", "my_variant", "late"]
    assert float(rows[0]["color.accuracy"]) == 0.7512 and rows[0]["color.accuracy.over"] == "seeds"
    assert float(rows[1]["color.accuracy.difference.questions.low"]) == -0.004
    assert (
        rows[1]["color.accuracy.difference.seeds.low"] == "" and rows[1]["color.accuracy.over"] == "questions"
    )
    assert float(rows[1]["color.accuracy.difference.p"]) == pytest.approx(2 * 8 / 2**7)
    assert rows[2]["color.accuracy"] == "" and "100% of | lost" in rows[2]["unfinished"]


def test_json_has_every_seed():
    document = json.loads(json_text(TABLE))
    base, mine, late = document["variants"]
    assert (document["experiment"], document["baseline"]) == ("a grid", "base")
    assert base["figures"]["color.accuracy"] == {
        "value": 0.7512,
        "interval": [0.7312, 0.7712],
        "over": "seeds",
        "by_seed": {"0": 0.75, "1": 0.7524},
    }
    assert mine["differences"]["color.accuracy"]["pairs"]["0"]["second_alone"] == 6
    assert mine["differences"]["color.accuracy"]["p"] == pytest.approx(0.125)
    assert late["figures"] == {} and document["unfinished"][0]["status"] == "failed"
    assert set(RENDERERS) == {"md", "csv", "tex", "json"}


def test_decimals_are_those_of_the_narrowest_interval():
    def shown(*estimates):
        rows = tuple(("v", "1", one, None, None, None) for one in estimates)
        return [row[2] for row in attrs.evolve(TABLE, rows=rows).texts()]

    assert shown(attrs.evolve(BASE, value=12.345, interval=(11.0, 13.69))) == ["12.3 ± 1.3"]
    assert shown(attrs.evolve(BASE, interval=(0.7511, 0.7513)), MINE) == [
        "0.7512 ± 0.0001",
        "0.8000 (0.7100–0.8700)",
    ]
    assert shown(attrs.evolve(BASE, value=0.123456, interval=None)) == ["0.1235"]
    assert shown(attrs.evolve(BASE, interval=(0.7512, 0.7512))) == ["0.7512 ± 0"]


def test_differences_over_seeds_and_alone():
    def shown(**changes):
        contrast = attrs.evolve(DIFFERENCE, pairs={}, of_questions=None, **changes)
        table = attrs.evolve(TABLE, rows=(("v", "1", None, contrast, None, None),))
        return table.texts()[0][3], table.legend

    text, legend = shown(over_seeds=(0.02, 0.08))
    assert text == "+0.050 ± 0.030" and legend[-1].startswith("Δ ± half of the 95% interval")
    assert shown(value=-0.0)[0] == "+0" and shown(value=-0.25)[0] == "-0.25"


TEXT = st.text(st.one_of(st.characters(), st.sampled_from("\\{}$&%#_~^<>|`[]*-–±Δ…\n\r\t ")), max_size=40)


def _as_read(text):
    """What a text says, however it is broken into lines."""
    return " ".join(text.split())


@given(TEXT)
def test_latex_says_what_the_text_says(text):
    escaped = latex_text(text)
    assert "\n" not in escaped
    back = {code: character for character, code in LATEX.items()}
    codes = re.compile("|".join(map(re.escape, sorted(back, key=len, reverse=True))))
    assert not set("#$%&_~^<>|`\\{}") & set(codes.sub("", escaped))
    printable = "".join(one if one.isprintable() else " " for one in text)
    read = codes.sub(lambda found: back[found[0]], escaped)
    # A dash between numbers is made of two hyphens, as LaTeX wants it; those of the text are kept apart.
    assert read == _as_read(printable)


@given(TEXT, TEXT)
def test_a_cell_of_markdown_stays_one(first, second):
    rows = (("x" + first, "y" + second, None, None, None, None),)
    table = attrs.evolve(TABLE, rows=rows, unfinished=(), notes=())
    [row] = [line for line in markdown(table).split("\n") if line.startswith("| x")]
    cells = re.split(r"(?<!\\)(?:\\\\)*\|", row)
    assert len(cells) == len(COLUMNS) + 2
    assert re.sub(r"\\([\\`*|<\[~&_])", r"\1", markdown_text(first)) == _as_read(first)


@given(TEXT.filter(lambda text: "\r" not in text and "\0" not in text and text.isprintable()))
def test_csv_and_json_keep_every_text(text):
    rows = ((text, "1", None, None, None, None),)
    table = attrs.evolve(TABLE, rows=rows, unfinished=())
    assert next(csv.DictReader(io.StringIO(csv_text(table))))["variant"] == text
    assert json.loads(json_text(table))["variants"][0]["variant"] == text
