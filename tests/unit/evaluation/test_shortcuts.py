import json

import numpy as np
import pytest
from PIL import Image

from perceptio.data.folder import FolderDataset, write_folder
from perceptio.data.scenes import SceneSet, Split
from perceptio.errors import DataError
from perceptio.evaluation.shortcuts import names_a_point, shortcuts
from perceptio.interfaces import Turn


def folder_of(path, questions, ids_HW):
    """One 16-pixel picture, asked (answer, points) questions."""
    (path / "images").mkdir(parents=True)
    (path / "masks").mkdir()
    Image.new("RGB", (16, 16)).save(path / "images" / "0.png")
    Image.fromarray(ids_HW.astype(np.uint8)).save(path / "masks" / "0.png")
    turns = [
        {"task": "relative_depth", "question": "Which?", "answer": answer, "points": points}
        for answer, points in questions
    ]
    line = {"id": "0", "image": "images/0.png", "masks": "masks/0.png", "turns": turns}
    (path / "samples.jsonl").write_text(json.dumps(line) + "\n")
    (path / "dataset.json").write_text(json.dumps({"format": "perceptio-data", "version": 1}))
    return FolderDataset(path)


def test_each_shortcut_by_hand(tmp_path):
    ids = np.zeros((16, 16))
    ids[:4, :4], ids[12:, 12:14] = 1, 2  # Object 1 is larger and above, object 2 smaller and below.
    above, below, between = [0.1, 0.1], [0.8, 0.9], [0.5, 0.5]
    questions = [
        ("(A)", [above, below, between]),
        ("(B)", [above, below, between]),
        ("(A)", [below, between, above]),
    ]
    figures = shortcuts(folder_of(tmp_path, questions, ids))
    assert figures["majority"] == pytest.approx(2 / 3)
    assert figures["lowest"] == pytest.approx(2 / 3)  # right in the second and the third
    assert figures["largest"] == pytest.approx(1 / 3)  # right in the first alone
    low, high = figures["lowest_interval"]
    assert 0 < low < 2 / 3 < high < 1


def test_a_folder_without_marked_points_is_refused(tmp_path):
    dataset = folder_of(tmp_path, [], np.zeros((16, 16)))
    with pytest.raises(DataError, match="no relative_depth question"):
        shortcuts(dataset)


def test_scenes_do_not_give_depth_away(tmp_path):
    write_folder(tmp_path / "scenes", SceneSet(split=Split.VALIDATION, base=7, count=60), info=SceneSet.info)
    figures = shortcuts(FolderDataset(tmp_path / "scenes"))
    for name in ("majority", "lowest", "largest"):
        assert figures[name] < 0.5, figures


@pytest.mark.parametrize(
    ("answer", "named"),
    [("(B)", True), ("B", True), ("(C)", False), ("AB", False), ("", False), ("2", False)],
)
def test_answers_that_name_one_of_two_points(answer, named):
    turn = Turn(question="Which?", answer=answer, task="points", points=((0.1, 0.1), (0.2, 0.2)))
    assert names_a_point(turn) is named
