"""Each way in which a data folder can be wrong is found, and said of its file."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset, check
from perceptio.data.folder.check import check_folder
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


def change_text(folder, number, old, new):
    lines = (folder / "samples.jsonl").read_bytes().split(b"\n")
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new, 1)
    (folder / "samples.jsonl").write_bytes(b"\n".join(lines))


def link(file, target):
    if target != file:
        file.rename(target)
    else:
        file.unlink()
    file.symlink_to(target)


def huge_png(file):
    """A header of 60,000 x 60,000 pixels, and nothing to decode."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")


def misspell(line):
    line["imge"] = line.pop("image")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: file_of(f, 1, "image").unlink(), "does not exist"),
        (lambda f: file_of(f, 1, "image").write_bytes(b""), "is empty"),
        (
            lambda f: file_of(f, 1, "depth").write_bytes(b"no picture"),
            "is no image that can be read: save it as 16",
        ),
        (lambda f: Image.new("I;16", (32, 32)).save(file_of(f, 1, "depth")), "has no known pixel"),
        (
            lambda f: Image.new("I;16", (16, 16), 4000).save(file_of(f, 1, "depth")),
            "16x16 pixels, and its",
        ),
        (lambda f: Image.new("RGB", (32, 32)).save(file_of(f, 1, "masks")), "indexed or gray"),
        (
            lambda f: Image.new("L", (32, 32)).save(file_of(f, 1, "masks")),
            "lacks a pixel of what a turn segments, by object number: ",
        ),
        (lambda f: change_line(f, 1, misspell), "imge"),
        (lambda f: change_line(f, 1, lambda line: line["turns"][0].update(points=[[2.0, 0.5]])), "point"),
        (lambda f: change_line(f, 1, lambda line: line.update(image="../outside.png")), "outside"),
        (lambda f: Image.new("RGB", (32, 32)).save(f / "images" / "stray.png"), "is named by no sample"),
        (lambda f: change_line(f, 1, lambda line: line.update(image="a\\b.png")), "with /"),
        (lambda f: change_line(f, 1, lambda line: line.update(image="a\0.png")), "that no name can have"),
        (lambda f: change_line(f, 1, lambda line: line.update(image="a" * 5000)), "longer than 255 bytes"),
        (lambda f: change_line(f, 1, lambda line: line.update(depth="/etc/hostname")), "inside the folder"),
        (lambda f: change_text(f, 1, b'"question":', b'"question":"half \\ud800","x":'), "surrogate pair"),
        (lambda f: change_text(f, 1, b'"question":', b'"question":"\xff","x":'), "not UTF-8"),
        (lambda f: change_text(f, 1, b'"question":', b'"x":' + b"[" * 10**5), "nested deeper than"),
        (lambda f: change_text(f, 1, b'"points":[[', b'"points":[[1e400,'), "beyond 64 bits"),
        (lambda f: link(file_of(f, 1, "image"), f.parent / "other.png"), "leads out of"),
        (lambda f: link(file_of(f, 1, "image"), file_of(f, 1, "image")), "leads nowhere"),
        (lambda f: huge_png(file_of(f, 1, "masks")), "far more than 50,000,000 pixels"),
        (
            lambda f: Image.new("L", (16, 16)).save(file_of(f, 1, "masks")),
            "16x16 pixels, and its picture 32x32",
        ),
    ],
)
def test_what_is_wrong_is_said_of_its_file(folder, harm, message):
    harm(folder)
    problems = [str(problem) for problem in check_folder(folder).problems]
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        ([60_000, 60_000], [60_000 * 60_000], "no picture's of at most 50,000,000 pixels"),
        ([-8, -8], [64], "no picture's"),
        ([2**62, 4], [0], "no picture's"),
        ([2**63, 1], [2**63], "no picture's"),
        ([64, 64], [64 * 64], "mask 1 is 64x64 pixels, and its picture 32x32 pixels"),
        ([32, 32], [-1, 1025], "not runs of pixels"),
        ([32, 32], [7], "runs of 7 pixels in all, and 32x32 are 1024"),
        ([32], [32], r"has the size [32], which is not [height, width]"),
        ([32, 32], "0\u00e9", "a character that is none of COCO's"),
        ([32, 32], "0~", "a character that is none of COCO's"),
        ([32, 32], "PPP", "end within a run: they are cut short"),
        ([32, 32], "PPPPPPPP0", "a run of more than 7 characters"),
        ([32, 32], "0oooooo?", "a run of less than 0 or more than 1024 pixels"),
        ([32, 32], "7", "runs of 7 pixels in all, and 32x32 are 1024"),
        ([60_000, 60_000], "oooooo?", "no picture's of at most 50,000,000 pixels"),
    ],
)
def test_the_size_of_runs_is_checked_before_they_are_a_mask(folder, size, counts, message):
    runs = {"id": 1, "size": size, "counts": counts}
    file_of(folder, 0, "masks").unlink()
    change_line(folder, 0, lambda line: line.update(masks=[runs], turns=[]))
    (problem,) = check_folder(folder).problems
    assert message in str(problem) and problem.line == 1


def write_array(file, values):
    with file.open("wb") as stream:
        np.save(stream, values, allow_pickle=True)


def npy_header(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 16


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: file.write_bytes(b"PK\x03\x04aaaa"), "cannot be read as NPY"),
        (lambda file: np.savez(file.open("wb"), a=np.ones(3)), "cannot be read as NPY"),
        (lambda file: file.write_bytes(npy_header("(True, 4)")), "cannot be read as NPY"),
        (lambda file: file.write_bytes(npy_header("(3,")), "cannot be read as NPY"),
        (lambda file: file.write_bytes(npy_header("(1000000, 1000000)")), "cannot be read as NPY"),
        (lambda file: write_array(file, np.array([{}], dtype=object)), "cannot be read as NPY"),
        (
            lambda file: write_array(file, np.ones((32, 31), np.float32)),
            "31x32 pixels, and its picture 32x32",
        ),
        (lambda file: write_array(file, np.full((32, 32), 1e300)), "depths from inf to inf"),
        (lambda file: write_array(file, np.ones((32, 32), np.int64)), "write float32"),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "NPY"])
def test_arrays_that_are_no_depth_are_said(folder, write, message, ending):
    write(folder / f"depth/a.{ending}")
    change_line(folder, 1, lambda line: line.update(depth=f"depth/a.{ending}"))
    problems = [str(one) for one in check_folder(folder).problems if "no sample" not in str(one)]
    assert len(problems) == 1 and message in problems[0], problems


def test_an_array_in_capitals_is_an_array(folder):
    np.save((folder / "depth/a.NPY").open("wb"), np.ones((32, 32), np.float32))
    change_line(folder, 1, lambda line: line.update(depth="depth/a.NPY"))
    assert FolderDataset(folder).depth(1).values_HW.mean() == 1


def test_metadata_that_cannot_be_read_is_no_problem(folder):
    file = file_of(folder, 1, "image")
    Image.open(file).save(file, exif=b"Exif\0\0II*\0")
    assert check_folder(folder).problems == ()


def test_every_problem_is_listed_and_a_dataset_stops_at_the_first(folder):
    for number in (0, 2):
        file_of(folder, number, "image").unlink()
    assert len(check_folder(folder).problems) == 2
    with pytest.raises(DataError, match="`perceptio data check .*` lists all problems"):
        FolderDataset(folder)[0]


def test_a_root_that_was_moved_is_said_once(folder, tmp_path):
    (folder / "images").rename(tmp_path / "pictures")
    lines = (folder / "samples.jsonl").read_text().replace('"images/', '"far:')
    (folder / "samples.jsonl").write_text(lines)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(info | {"roots": {"far": str(tmp_path / "pictures")}}))
    assert check_folder(folder).problems == ()
    file_of(folder, 1, "depth").unlink()
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    root, depth = check_folder(folder).problems
    assert str(root) == (
        f"dataset.json: the root 'far' is {tmp_path}/pictures, which is no folder: say where it is now."
    )
    assert depth.line == 2 and depth.file.startswith("depth/")


def test_several_processes_report_what_one_reports(folder, monkeypatch):
    monkeypatch.setattr(check, "ALONE", 2)
    for number in (0, 2):
        file_of(folder, number, "image").unlink()
    with (folder / "samples.jsonl").open("a") as lines:
        lines.write('{"id": 3}\n')
    seen = []
    alone, together = check_folder(folder), check_folder(folder, seen.append, jobs=2, recipe=small_recipe())
    assert together == alone and len(alone.problems) > 3 and seen[-1] == 4


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


def test_turns_of_a_task_whose_plugin_is_not_loaded_are_counted(tmp_path):
    folder = scenes_folder(tmp_path / "data", count=2)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    lines[0]["turns"].append({"task": "acme/counting", "question": "How many?", "answer": "2"})
    lines[1]["turns"] += 2 * [{"task": "acme/counting", "question": "How many?", "answer": "2"}]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = check_folder(folder)
    assert report.unchecked == {"acme/counting": 3} and not report.problems
