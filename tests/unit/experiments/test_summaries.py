"""Summaries of cells: what stands for a cell that was run elsewhere."""

import json
import shutil
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import DataError
from perceptio.evaluation.answers import AskedQuestion
from perceptio.experiments.cell_summary import Marks
from perceptio.experiments.display import Lines
from perceptio.experiments.experiment import Experiment
from perceptio.experiments.results import read
from perceptio.experiments.run import Run, prepare
from perceptio.experiments.summaries import read_summaries, write_summaries
from perceptio.experiments.summary import summarize
from perceptio.experiments.tables import table_of


@pytest.fixture(scope="module")
def kept() -> dict[str, Path]:
    """The folder of an experiment, run once, and that of its summaries."""
    return {}


@pytest.fixture
def ran(experiment, launcher, kept, tmp_path_factory) -> Path:
    if "out" not in kept:
        kept["out"] = tmp_path_factory.mktemp("ran") / "out"
        prepare(experiment, out=kept["out"], seeds=(0,)).start(launcher, Lines())
    return kept["out"]


@pytest.fixture
def beside(experiment, ran, tmp_path: Path) -> Experiment:
    """The experiment in a fresh folder, with the summaries of its cells beside its file."""
    there = attrs.evolve(experiment, file=tmp_path / "rates.py")
    assert len(write_summaries(ran, tmp_path / "rates.cells")) == 2
    return there


def planned(experiment: Experiment, out: Path, **given: object) -> Run:
    return prepare(experiment, out=out, seeds=(0,), **given)


def test_a_fresh_folder_runs_nothing_and_finds_the_same(beside, ran, launcher, start, tmp_path: Path) -> None:
    start.done.clear()
    ready = planned(beside, tmp_path / "fresh")
    assert ready.jobs == () and len(ready.summaries) == 2 and ready.warnings == ()
    result = ready.start(launcher, Lines())
    assert start.done == [] and result == read(tmp_path / "fresh")
    first, then = summarize(read(ran)), summarize(result)
    for one, other in zip(first.variants, then.variants, strict=True):
        assert one.figures == other.figures and one.differences == other.differences
        assert one.parameters == other.parameters and one.seconds == pytest.approx(other.seconds, abs=0.1)
    assert table_of(first).texts()[0][2:-2] == table_of(then).texts()[0][2:-2]
    (note,) = (note for note in then.notes if "summaries" in note)
    assert note.startswith("2 cells told by summaries, and evaluated on cpu with perceptio 0.")
    # Without a folder, too, and with the learning curve.
    alone = read_summaries(beside)
    assert [cell.figures for cell in alone.cells] == [cell.figures for cell in result.cells]
    curve = read(ran).cells[0].curve()
    assert [line["step"] for line in alone.cells[0].curve()] == [line["step"] for line in curve]
    assert alone.cells[0].curve()[-1]["loss"] == pytest.approx(curve[-1]["loss"], rel=1e-4)
    assert alone.cells[0].recipe() == read(ran).cells[0].recipe()


def test_another_recipe_more_controls_or_the_wish_to_run_it_are_run(beside, base, tmp_path: Path) -> None:
    other = attrs.evolve(base, train=attrs.evolve(base.train, steps=5))
    changed = attrs.evolve(beside, variants={**beside.variants, "slow": other})
    ready = planned(changed, tmp_path / "out")
    assert [job.title for job in ready.jobs if job.stage == "training"] == ["slow, seed 0"]
    assert [cell.status for cell in read_summaries(changed).cells] == ["waiting", "complete"]
    assert planned(beside, tmp_path / "out", controls=("zero",)).summaries == {}
    assert len([job for job in planned(beside, tmp_path / "out", rerun=True).jobs]) == 5


def test_a_default_that_has_changed_since_is_said_and_the_cell_is_run(beside, tmp_path: Path) -> None:
    for file in (tmp_path / "rates.cells").iterdir():
        file.write_text(file.read_text().replace('"too_long":"refuse"', '"too_long":"skip"'))
    ready = planned(beside, tmp_path / "out")
    assert ready.summaries == {} and len(ready.jobs) == 5
    assert ready.warnings == (
        "Summaries of cells that had other defaults are not used, such as that of 'slow' with seed 0: "
        "data.too_long was skip and is refuse.",
    )


def test_a_setting_that_was_declared_since_leaves_a_summary_what_it_was(beside, tmp_path: Path) -> None:
    for file in (tmp_path / "rates.cells").iterdir():
        held = json.loads(file.read_text())
        del held["recipe"]["data"]["too_long"]
        file.write_text(json.dumps(held))
    assert len(planned(beside, tmp_path / "out").summaries) == 2
    assert [cell.status for cell in read_summaries(beside).cells] == ["complete", "complete"]


def test_what_was_begun_here_goes_on_here(beside, ran, tmp_path: Path) -> None:
    shutil.copytree(ran, tmp_path / "out")
    (tmp_path / "out" / "experiment.json").unlink()
    shutil.rmtree(tmp_path / "out" / "evaluations")
    ready = planned(beside, tmp_path / "out")
    assert ready.summaries == {} and len(ready.jobs) == 5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-3], "JSON"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "is of another format"),
        (lambda text: text.replace('"seed": 0,\n', ""), "seed"),
        (
            lambda text: text.replace('"num_points": [', '"num_points": [3,').replace(
                '"num_points":[', '"num_points":[3,'
            ),
            "zip",
        ),
        (
            lambda text: text.replace('"figures": {', '"figures": [{').replace('},\n"marks"', '}],\n"marks"'),
            "figures is of type list",
        ),
    ],
)
def test_a_damaged_summary_is_said_in_a_sentence(beside, damage, message, tmp_path: Path) -> None:
    file = tmp_path / "rates.cells" / f"{planned(beside, tmp_path / 'out').cells[0].summary}.json"
    damaged = damage(file.read_text())
    assert damaged != file.read_text()
    file.write_text(damaged)
    with pytest.raises(DataError, match=f"{file.name} is no.*{message}.*or leave it with --rerun"):
        planned(beside, tmp_path / "out")
    assert len(planned(beside, tmp_path / "out", rerun=True).jobs) == 5


def test_a_summary_under_another_name_and_two_of_one_cell_are_refused(beside, tmp_path: Path) -> None:
    folder = tmp_path / "rates.cells"
    file = sorted(folder.iterdir())[0]
    shutil.copy(file, folder / "copy.json")
    with pytest.raises(DataError, match=r"copy\.json is no summary of a cell \(what it holds is that of"):
        read_summaries(beside)
    (folder / "copy.json").unlink()
    held = json.loads(file.read_text())
    held["data"] = ["other"]
    other = attrs.evolve(beside, file=tmp_path / "none.py")
    with pytest.raises(DataError, match="There are no summaries of the cells of rates in .*none.cells"):
        read_summaries(other)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([None, True, False])), max_size=20))
def test_marks_say_which_questions_were_right(letters: list[tuple[bool, bool | None]]) -> None:
    asked = [AskedQuestion(id=f"{number:016x}", num_points=number % 3) for number in range(len(letters))]
    right = {
        "depth": {question: one for question, (one, _) in zip(asked, letters, strict=True)},
        "zero": {question: one for question, (_, one) in zip(asked, letters, strict=True) if one is not None},
    }
    found = Marks.of(right).by_question()
    assert found == right
    assert [question.num_points for question in found["depth"]] == [one.num_points for one in asked]
