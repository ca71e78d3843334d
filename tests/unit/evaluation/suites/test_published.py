"""Published layouts as data of suites, and their scorers by hand."""

import json

import pytest
import torch
from benchmark_files import (
    blink,
    blink_rows,
    cv_bench,
    cv_bench_rows,
    hardblink,
    picture,
    write_lines,
    write_parquet,
)
from small import small_recipe

from perceptio.data.sources.importing import import_source
from perceptio.data.sources.marked_points import MarkedPointsSource
from perceptio.errors import DataError, InputError
from perceptio.evaluation.suites import suite_named
from perceptio.evaluation.suites.choices import Choices, ChoiceTurn
from perceptio.evaluation.suites.cv_bench import score_cv_bench
from perceptio.evaluation.suites.hardblink import score_hardblink
from perceptio.interfaces import Question, Reply, Sample
from perceptio.model.perception_model import build_model
from perceptio.ops.image_files import as_image


@pytest.fixture(scope="module")
def model():
    return build_model(small_recipe()).eval()


def opened(name, path, model, **settings):
    return suite_named(name)(**settings).open(path, model)


@pytest.mark.parametrize("parquet", [False, True])
def test_cv_bench_questions_about_one_picture_come_together(parquet, model, tmp_path):
    data = opened("cv-bench", cv_bench(tmp_path / "cv", parquet), model)
    assert [data.name(number) for number in range(len(data))] == ["0", "1", "2", "4", "5"]
    assert [turn.task for turn in data.turns(0)] == ["Count", "Relation"]
    assert [data.labels(0, place)["source"] for place in range(2)] == ["ADE20K", "ADE20K"]
    for number in reversed(range(5)):
        assert torch.equal(data.sample(number).image_3HW, as_image(picture(number)))
    turn = data.turns(3)[0]
    assert turn.question == cv_bench_rows()[0]["prompt"] and turn.choices == ("left", "right")
    assert turn.answer == "(B)"


def test_cv_bench_figures_by_hand():
    """ADE20K 1 of 2, COCO 0 of 1, Omni3D 2 of 2: 2D (0.5 + 0) / 2, 3D 1, together 0.625."""
    answers = [
        ("Count", "ADE20K", "A", "A"),
        ("Relation", "ADE20K", "B", "A"),
        ("Count", "COCO", "", "A"),
        ("Depth", "Omni3D", "A", "A"),
        ("Distance", "Omni3D", "B", "B"),
    ]
    figures = score_cv_bench(answers)
    assert (figures["2d"], figures["3d"], figures["accuracy"]) == (0.25, 1.0, 0.625)
    assert figures["tasks"]["Count"]["accuracy"] == 0.5 and figures["sources"]["COCO"]["unparsed"] == 1
    assert (figures["count"], figures["unparsed"]) == (5, 1)
    flat = score_cv_bench(answers[:3])
    assert flat["2d"] == 0.25 and not {"3d", "accuracy"} & flat.keys()
    assert "2d" not in score_cv_bench(answers[:2])


def test_hardblink_figures_by_hand():
    """3 points: 1 of 2; 5 points: 1 of 1; the mean of the two sets is not the share of all questions."""
    figures = score_hardblink([(3, "A", "A"), (5, "E", "E"), (3, "", "B")])
    assert figures["3"]["accuracy"] == 0.5 and figures["5"]["accuracy"] == 1.0 and figures["mean"] == 0.75
    assert (figures["count"], figures["unparsed"]) == (3, 1)
    low, high = figures["interval"]
    assert low < 2 / 3 < high


def test_blink_is_read_from_parquet_and_from_an_export(model, tmp_path):
    data = opened("blink-depth", blink(tmp_path / "BLINK"), model, instruction="Answer with a letter.")
    assert len(data) == 3 and data.name(2) == "val_Relative_Depth_3"
    assert data.turns(0)[0].question == f"{blink_rows()[0]['prompt']}\nAnswer with a letter."
    assert torch.equal(data.sample(2).image_3HW, as_image(picture(2)))

    picture(7).save(tmp_path / "7.png")
    row = blink_rows(1)[0] | {"image_1": "7.png", "prompt": None}
    (tmp_path / "val.json").write_text(json.dumps([row]))
    data = opened("blink-depth", tmp_path / "val.json", model)
    assert torch.equal(data.sample(0).image_3HW, as_image(picture(7)))
    assert data.turns(0)[0].question == (
        "Which point is closer to the camera?\n(A) A is closer\n(B) B is closer"
    )


def test_hardblink_questions_say_how_many_points_there_are(model, tmp_path):
    data = opened("hardblink", hardblink(tmp_path / "hb"), model)
    assert len(data) == 9 and data.labels(4, 0) == {"points": 4}
    assert data.turns(8)[0].choices == ("A", "B", "C", "D", "E") and data.name(8) == "5pointscenter/2"


def test_hardblink_that_was_imported_is_asked_as_what_was_published(model, tmp_path):
    published = hardblink(tmp_path / "hb")
    import_source(MarkedPointsSource(folder=str(published)), tmp_path / "imported")
    one, other = opened("hardblink", published, model), opened("hardblink", tmp_path / "imported", model)
    assert len(one) == len(other) == 9
    for number in range(9):
        assert [(t.question, t.answer, t.choices) for t in one.turns(number)] == [
            (t.question, t.answer, t.choices) for t in other.turns(number)
        ]
        assert torch.equal(one.sample(number).image_3HW, other.sample(number).image_3HW)
        assert one.labels(number, 0) == other.labels(number, 0)
    lines = tmp_path / "imported" / "samples.jsonl"
    lines.write_text(lines.read_text().replace("3pointscenter-0", "first"))
    with pytest.raises(DataError, match="does not say how many points the picture 'first' shows"):
        opened("hardblink", tmp_path / "imported", model)


def test_a_choice_is_scored_by_its_letter(model):
    turn = ChoiceTurn(question="?", answer="(B)", task="Depth", choices=("left", "right"))
    asked = Choices("cv-bench", ("depth",), force=True, max_new_tokens=5)
    for text, letter, right in (("(B)", "B", True), ("left", "A", False), ("(C)", "", False)):
        reply = Reply(question=Question(sample=Sample(turns=()), turn=turn), text=text)
        assert asked.score(reply) == {"cv-bench": {"right": right, "letter": letter}}
    settings = asked.settings([])
    assert (settings.streams, settings.force, settings.max_new_tokens) == (("depth",), ("depth",), 5)


def with_row(number, **changes):
    rows = cv_bench_rows()[:4]
    rows[number] |= changes
    return [{key: held for key, held in row.items() if held is not ...} for row in rows]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "(C)"}, r"row 3 \(idx 2\) has the answer '\(C\)', which is none of its 2 choices"),
        ({"choices": []}, r"row 3 \(idx 2\) has the question .* and the choices \[\]"),
        ({"question": ...}, r"test_2d\.jsonl row 3 has no question; it has idx, "),
        ({"filename": 5}, r"row 3 \(idx 2\) names the picture 5, which is no path"),
        ({"choices": list("abcdefghijklmnopqrstuvwxyzä")}, r"has 27 choices, and there are 26 letters"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(changes, message, model, tmp_path):
    write_lines(tmp_path / "test_2d.jsonl", with_row(2, **changes))
    with pytest.raises(DataError, match=message):
        opened("cv-bench", tmp_path, model)


def test_an_answer_may_be_the_words_of_a_choice(model, tmp_path):
    write_lines(tmp_path / "test_2d.jsonl", with_row(1, answer="right"))
    assert opened("cv-bench", tmp_path, model).turns(1)[0].answer == "(B)"


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "json"])
def test_a_file_that_is_cut_short(kind, model, tmp_path):
    if kind == "json":
        (tmp_path / "val.json").write_text('[{"idx": 1')
        name, path = "blink-depth", tmp_path / "val.json"
        message = r"val\.json is not JSON .*cut short or damaged"
    else:
        path, name = cv_bench(tmp_path / "cv", parquet=kind == "parquet"), "cv-bench"
        file = path / f"test_3d.{kind}"
        file.write_bytes(file.read_bytes()[:-20])
        message = rf"test_3d\.{kind} .*the file is cut short or damaged; fetch it again"
    with pytest.raises(DataError, match=message):
        opened(name, path, model)


def test_a_picture_that_is_missing_or_broken_is_named(model, tmp_path):
    folder = cv_bench(tmp_path / "cv")
    data = opened("cv-bench", folder, model)
    (folder / "img" / "2D" / "1.png").unlink()
    with pytest.raises(DataError, match=r"cv, question 1: .*1\.png does not exist"):
        data.sample(1)
    write_lines(folder / "test_2d.jsonl", with_row(1, filename="../1.png"))
    with pytest.raises(DataError, match=r"question 1: The picture '\.\./1\.png' must be a path inside"):
        opened("cv-bench", folder, model).sample(1)
    rows = blink_rows(3)
    rows[1]["image_1"] = {"bytes": b"no picture", "path": None}
    write_parquet(tmp_path / "val.parquet", rows)
    with pytest.raises(
        DataError, match=r"val_Relative_Depth_2: the picture of row 2 of .* is no image that can"
    ):
        opened("blink-depth", tmp_path / "val.parquet", model).sample(1)
    write_parquet(
        tmp_path / "val.parquet", [{k: v for k, v in row.items() if k != "image_1"} for row in rows]
    )
    with pytest.raises(DataError, match="has no column 'image_1': fetch the published file"):
        opened("blink-depth", tmp_path / "val.parquet", model).sample(1)


def test_other_layouts_are_refused(model, tmp_path):
    with pytest.raises(
        DataError, match=r"neither test_2d\.jsonl nor test_2d\.parquet: fetch the files of nyu"
    ):
        opened("cv-bench", tmp_path, model)
    with pytest.raises(DataError, match=r"split 'test', such as test-.*\.parquet \(of others: val\): fetch"):
        opened("blink-depth", blink(tmp_path / "BLINK"), model, split="test")
    for change, message in (
        ({"answer": "hidden"}, r"row 1 \('val_.*_1'\) has no answer, as those of the test split"),
        ({"sub_task": "Counting"}, r"is of the sub-task 'Counting': name one of Relative_Depth"),
    ):
        write_parquet(tmp_path / "val.parquet", [row | change for row in blink_rows(1)])
        with pytest.raises(DataError, match=message):
            opened("blink-depth", tmp_path / "val.parquet", model)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match=r"empty\.jsonl has no row"):
        opened("cv-bench", tmp_path / "empty.jsonl", model)
    (tmp_path / "object.json").write_text("{}")
    with pytest.raises(DataError, match=r"object\.json is no list of objects"):
        opened("cv-bench", tmp_path / "object.json", model)


def test_a_question_that_is_there_twice_is_named(model, tmp_path):
    folder = cv_bench(tmp_path / "cv")
    (folder / "test.jsonl").write_text((folder / "test_2d.jsonl").read_text())
    with pytest.raises(DataError, match="has the question '0' twice: keep one of them, or one of the files"):
        opened("cv-bench", folder, model)


def test_parquet_needs_a_package_that_is_named(model, tmp_path, monkeypatch):
    folder = cv_bench(tmp_path / "cv", parquet=True)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        InputError, match=r"pyarrow, which is not installed: pip install 'perceptio\[parquet\]'"
    ):
        opened("cv-bench", folder, model)
