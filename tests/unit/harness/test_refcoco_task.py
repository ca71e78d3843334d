"""Referring segmentation as a task of lmms-eval: what is asked, and how replies are scored."""

import json

import fake_harnesses
import numpy as np
import pytest
import yaml
from small import scenes_folder

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError, InputError
from perceptio.harness import refcoco_task
from perceptio.harness.mask_text import written_mask
from perceptio.harness.refcoco_task import FIGURES, write_task


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("scenes") / "data", count=4)


@pytest.fixture
def documents(data, tmp_path):
    count = write_task(data, tmp_path / "tasks", "scenes_masks")
    lines = (tmp_path / "tasks/scenes_masks.jsonl").read_text().splitlines()
    assert count == len(lines) > 4
    return [json.loads(line) for line in lines]


def masks_of(data, document):
    return FolderDataset(data)[document["sample"]].turns[document["turn"]].masks


def test_each_referring_expression_is_a_question(data, documents):
    turns = [turn for sample in FolderDataset(data) for turn in sample.turns if turn.task == "referring"]
    assert [document["question"] for document in documents] == [turn.question for turn in turns]
    (picture,) = refcoco_task.pictures(documents[0])
    shown_3HW = FolderDataset(data).image(documents[0]["sample"])
    np.testing.assert_array_equal(np.asarray(picture), (shown_3HW.permute(1, 2, 0) * 255).round())
    assert refcoco_task.question(documents[0], {"post_prompt": ""}) == documents[0]["question"]
    assert refcoco_task.question(documents[0], {"post_prompt": " So."}).endswith(" So.")


def test_the_task_s_file_names_functions_that_are_there(documents, tmp_path):
    text = (tmp_path / "tasks/scenes_masks.yaml").read_text()
    named = [one.split(".")[1] for one in text.split("!function ")[1:] for one in [one.split()[0]]]
    scoring = (tmp_path / "tasks/scenes_masks_scoring.py").read_text()
    names: dict = {}
    exec(scoring, names)
    assert len(named) == 7 and all(callable(names[one]) for one in named)
    read = yaml.safe_load(text.replace("!function ", ""))
    assert read["dataset_kwargs"]["data_files"]["test"] == str(tmp_path / "tasks/scenes_masks.jsonl")
    assert read["model_specific_generation_kwargs"]["perceptio"]["masks"] == "coco_rle"
    assert "compressed run-length" in read["lmms_eval_specific_kwargs"]["default"]["post_prompt"]


def test_replies_are_scored_by_their_masks_united(data, documents):
    first, second = [document for document in documents if masks_of(data, document)][:2]
    nothing = next(document for document in documents if not masks_of(data, document))
    mask_HW = np.logical_or.reduce(masks_of(data, first))
    left_HW, right_HW = mask_HW.copy(), mask_HW.copy()
    left_HW[:, 16:], right_HW[:, :16] = False, False
    exact = refcoco_task.score(first, [f"Sure. {written_mask(left_HW)} {written_mask(right_HW)}"])
    none = refcoco_task.score(second, ['I see it. <mask>{"size": [1, 1], "counts": "01"}</mask>'])
    assert list(exact) == list(FIGURES)
    assert exact["ciou"] == {"intersection": mask_HW.sum(), "union": mask_HW.sum(), "missing": False}
    pixels = int(np.logical_or.reduce(masks_of(data, second)).sum())
    assert none["ciou"] == {"intersection": 0, "union": pixels, "missing": True}
    assert refcoco_task.giou([refcoco_task.score(nothing, ["There is none."])["ciou"]]) == 1.0
    overlaps = [exact["ciou"], none["ciou"]]
    assert refcoco_task.ciou(overlaps) == pytest.approx(mask_HW.sum() / (mask_HW.sum() + pixels))
    assert refcoco_task.giou(overlaps) == pytest.approx(0.5) and refcoco_task.missing(overlaps) == 0.5


def test_what_cannot_be_a_task_is_said(data, tmp_path):
    with pytest.raises(InputError, match="The task is to be called 'my task': use letters, digits and _"):
        write_task(data, tmp_path, "my task")
    line = {"id": "a", "image": "images/a.png", "turns": []}
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/dataset.json").write_text('{"format": "perceptio-data", "version": 1}')
    (tmp_path / "bare/samples.jsonl").write_text(f"{json.dumps(line)}\n")
    with pytest.raises(
        DataError, match="bare has no question of the task 'referring': make one of the published"
    ):
        write_task(tmp_path / "bare", tmp_path / "tasks", "bare")


@pytest.mark.skipif(not fake_harnesses.there("lmms_eval"), reason="lmms-eval is not installed")
def test_lmms_eval_scores_it(data, documents, checkpoint, tmp_path, monkeypatch):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    results = simple_evaluate(
        model="perceptio",
        model_args=f"pretrained={checkpoint},perceive=segmentation",
        tasks=["scenes_masks"],
        batch_size=4,
        device="cpu",
        limit=4,
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), model_name="perceptio"),
    )
    figures, samples = results["results"]["scenes_masks"], results["samples"]["scenes_masks"]
    overlaps = [one["ciou"] for one in samples]
    assert len(overlaps) == 4 and figures["missing,none"] == 0
    assert figures["ciou,none"] == pytest.approx(refcoco_task.ciou(overlaps))
    assert figures["giou,none"] == pytest.approx(refcoco_task.giou(overlaps))
