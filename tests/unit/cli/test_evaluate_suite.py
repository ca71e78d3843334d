"""`perceptio eval --suite` from the command line."""

import json

import pytest
from published import write_refcoco
from small import scenes_folder, small_recipe

from perceptio.evaluation.answers import read_answers
from perceptio.model.perception_model import build_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model and scenes."""
    place = tmp_path_factory.mktemp("suite")
    build_model(small_recipe()).save_pretrained(place / "model")
    return place / "model", scenes_folder(place / "scenes", count=2)


def test_figures_are_shown_and_written_beside_the_model(run, folders):
    model, scenes = folders
    command = (
        "eval",
        model,
        "--suite",
        "depth",
        "--data",
        scenes,
        "--set",
        "alignment=median",
        "--device",
        "cpu",
    )
    status, out, _ = run(*command)
    assert status == 0 and "depth of scenes" in out and "absrel_interval" in out
    summary = json.loads((model / "suites" / "depth" / "summary.json").read_text())
    assert summary["settings"] == {"alignment": "median", "max_depth": None, "crop": None}
    assert summary["data"]["scenes"]["pictures"] == summary["figures"]["scenes"]["count"] == 2
    assert len(summary["model"]["weights"]) == 64 and summary["versions"]["perceptio"]
    assert run(*command, "--limit", "1")[0] == 2
    status, _, err = run("eval", model, "--data", scenes, "--out", model / "suites" / "depth")
    assert status == 2 and "holds summary.json, the evaluation of a suite: choose another --out" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--suite", "refcok"), "no suite 'refcok'; did you mean 'refcoco'"),
        (
            ("--suite", "depth", "--set", "alignmnt=none"),
            "The suite depth has no setting 'alignmnt'; did you mean 'alignment'",
        ),
        (
            ("--suite", "depth", "--set", "alignment=best"),
            "depth.alignment is 'best'; it must be 'none' or 'median'",
        ),
        (("--suite", "depth", "--controls", "all"), "Controls are asked of a data folder: leave out --suite"),
        (("--set", "alignment=none"), "--set and --batch-size are of suites: name one with --suite"),
    ],
)
def test_what_is_asked_wrongly_is_said(run, folders, options, message):
    model, scenes = folders
    status, _, err = run("eval", model, "--data", scenes, *options)
    assert status == 2 and message in err


def test_a_suite_needs_data_and_a_model(run, folders, tmp_path):
    model, _ = folders
    status, _, err = run("eval", model, "--suite", "refcoco")
    assert status == 2 and "The suite refcoco needs data: name them with --data" in err


def test_from_refcoco_s_published_files_to_figures(run, folders, tmp_path):
    """Two splits are imported, each by a command, and evaluated by one; answers name their ref and sentence."""
    published = write_refcoco(tmp_path / "published")
    for split in ("testA", "val"):
        out = tmp_path / "sets" / split
        assert run("data", "import", "refcoco", published, "--out", out, "--set", f"split={split}")[0] == 0
    command = ("eval", folders[0], "--suite", "refcoco", "--data", tmp_path / "sets", "--device", "cpu")
    status, out, err = run(*command, "--out", tmp_path / "out")
    assert status == 0, err
    assert "refcoco of val" in out and "refcoco of testA" in out
    figures = json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]
    answers = read_answers(tmp_path / "out")
    assert figures["testA"]["count"] == figures["val"]["count"] == 6 and len(answers) == 12
    assert {one.turn for one in answers[6:8]} == {"ref6-sent18", "ref6-sent19"}
    assert {one.sample for one in answers} == {"refcoco-unc-testA-105", "refcoco-unc-val-104"}
