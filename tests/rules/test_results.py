"""The page of results says what the committed summaries say, and these are of the recipes as they are."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

from perceptio.experiments.cell_summary import read_summary
from perceptio.experiments.experiment import load_experiment
from perceptio.experiments.summaries import is_current

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "results_tables.py"
FOLDERS = sorted((ROOT / "recipes" / "experiments").glob("*.cells"))
FILES = [file for folder in FOLDERS for file in sorted(folder.iterdir())]


def test_the_tables_of_the_page_are_those_of_the_summaries():
    spec = importlib.util.spec_from_file_location("results_tables", SCRIPT)
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    page = tables.PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- table: {name} -->" in page for name in tables.TABLES)
    assert page == tables.page_with_tables(page), f"run python {SCRIPT.relative_to(ROOT)}"
    # A number that is changed by hand is noticed.
    number = next(
        word for word in page.split("<!-- table: ")[1].split() if word[:1].isdigit() and "." in word
    )
    changed = page.replace(number, "12.34")
    assert tables.page_with_tables(changed) != changed


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.stem}-{file.stem}")
def test_a_summary_is_of_the_recipe_that_its_variant_has(file):
    """One that is not would stand for nothing: run its cell again, or remove it."""
    experiment = load_experiment(f"experiments/{file.parent.stem}")
    summary = read_summary(file)
    assert summary.variant in experiment.variants and is_current(summary, experiment)
    assert (
        summary.figures
        and summary.marks.right
        and summary.curve["step"][-1] == summary.recipe["train"]["steps"]
    )


def test_summaries_come_with_the_library():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = settings["tool"]["setuptools"]["data-files"]
    for folder in FOLDERS:
        place = folder.relative_to(ROOT).as_posix()
        assert shipped[f"share/perceptio/{place}"] == [f"{place}/*.json"]
        assert folder.with_suffix(".py").is_file()
    assert len(FOLDERS) >= 2
