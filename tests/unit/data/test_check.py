"""Each way in which a data folder can be wrong is found, and said of its file."""

import json

import numpy as np
import pytest
from PIL import Image
from small import scenes_folder

from perceptio.data.check import check_folder
from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return scenes_folder(tmp_path / "scenes", count=3)


def change_line(folder, number, change):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    change(lines[number])
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def file_of(folder, number, kind):
    return folder / json.loads((folder / "samples.jsonl").read_text().splitlines()[number])[kind]


def test_a_whole_folder_has_no_problem(folder):
    report = check_folder(folder)
    assert report.samples == 3 and report.turns > 3 and report.problems == ()


def misspell(line):
    line["imge"] = line.pop("image")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: file_of(f, 1, "image").unlink(), "does not exist"),
        (lambda f: file_of(f, 1, "image").write_bytes(b""), "is empty"),
        (lambda f: file_of(f, 1, "depth").write_bytes(b"no picture"), "is no picture"),
        (lambda f: Image.new("I;16", (32, 32)).save(file_of(f, 1, "depth")), "has no known pixel"),
        (
            lambda f: Image.new("I;16", (16, 16), 4000).save(file_of(f, 1, "depth")),
            "16x16 pixels, and its",
        ),
        (lambda f: Image.new("RGB", (32, 32)).save(file_of(f, 1, "masks")), "indexed or gray"),
        (lambda f: Image.new("L", (32, 32)).save(file_of(f, 1, "masks")), "has no pixel of object"),
        (lambda f: change_line(f, 1, misspell), "imge"),
        (lambda f: change_line(f, 1, lambda line: line["turns"][0].update(points=[[2.0, 0.5]])), "point"),
        (lambda f: change_line(f, 1, lambda line: line.update(image="../outside.png")), "outside"),
        (lambda f: Image.new("RGB", (32, 32)).save(f / "images" / "stray.png"), "is named by no sample"),
    ],
)
def test_what_is_wrong_is_said_of_its_file(folder, harm, message):
    harm(folder)
    problems = [str(problem) for problem in check_folder(folder).problems]
    assert any(message in problem for problem in problems), problems


def test_every_problem_is_listed_and_a_dataset_stops_at_the_first(folder):
    for number in (0, 2):
        file_of(folder, number, "image").unlink()
    assert len(check_folder(folder).problems) == 2
    with pytest.raises(DataError, match="`perceptio data check .*` lists all problems"):
        FolderDataset(folder)[0]


@pytest.mark.parametrize(
    ("name", "message"), [("dataset.json", "is no data folder"), ("samples.jsonl", "has no samples.jsonl")]
)
def test_a_folder_that_is_none_is_refused(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(DataError, match=message):
        check_folder(folder)


def test_runs_are_masks_too(folder):
    mask = np.zeros((32, 32), dtype=bool)
    mask[4:8, 10] = True
    runs = {"id": 1, "size": [32, 32], "counts": [10 * 32 + 4, 4, 32 * 32 - 10 * 32 - 8]}
    turn = {"task": "referring", "question": "Please segment it.", "answer": "Sure.", "objects": [1]}
    file_of(folder, 0, "masks").unlink()
    change_line(folder, 0, lambda line: line.update(masks=[runs], turns=[turn]))
    assert check_folder(folder).problems == ()
    np.testing.assert_array_equal(FolderDataset(folder)[0].turns[0].masks[0], mask)
