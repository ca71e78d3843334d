"""What is written comes back; what does not fit is refused, and nothing that was there is lost."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small import scenes_folder

from perceptio.data.folder import DatasetInfo, Entry, FolderDataset, line_rules, write_folder
from perceptio.data.folder.records import parse_lines
from perceptio.data.tasks import task_rules
from perceptio.errors import DataError
from perceptio.interfaces import DepthMap, Turn

IDS = np.zeros((8, 12), dtype=np.uint8)
IDS[1:4, 2:6] = 3
QUESTION = Turn(task="referring", question="Please segment it.", answer="Sure.", masks=(IDS == 3,))
POINTS = Turn(task="relative_depth", question="Which?", answer="(B)", points=((0.25, 0.5), (0.7, 0.625)))


def entry(name="kitchen", **changes):
    random = np.random.default_rng(len(name))
    depth_HW = random.uniform(1, 10, (8, 12)).astype(np.float32)
    depth_HW[0, :3] = np.nan
    values = {
        "id": name,
        "image_HW3": random.integers(0, 256, (8, 12, 3), dtype=np.uint8),
        "depth": DepthMap(values_HW=depth_HW, unit="metres"),
        "object_ids_HW": IDS,
        "turns": (QUESTION, POINTS),
    }
    return Entry(**values | changes)


def test_what_is_written_comes_back(tmp_path):
    write_folder(tmp_path / "data", [entry(), entry("hall")])
    dataset = FolderDataset(tmp_path / "data")
    assert len(dataset) == 2 and dataset.tasks[0] == {"referring", "relative_depth"}
    sample, written = dataset[1], entry("hall")
    np.testing.assert_array_equal(
        (sample.image_3HW.permute(1, 2, 0) * 255).round().numpy().astype(np.uint8), written.image_HW3
    )
    np.testing.assert_allclose(sample.depth.values_HW, written.depth.values_HW, atol=0.00025 / 2 + 1e-6)
    assert sample.depth.unit == "metres"
    np.testing.assert_array_equal(sample.turns[0].masks[0], IDS == 3)
    assert sample.turns[1] == POINTS or sample.turns[1].points == POINTS.points
    np.testing.assert_array_equal(dataset.depth(1).values_HW, sample.depth.values_HW)
    assert [turn.question for turn in dataset.turns(1)] == ["Please segment it.", "Which?"]
    assert list(dataset.object_masks(0)) == [3]
    np.testing.assert_array_equal(sample.target("objects"), IDS[None] == 3)


def test_disparity_and_npy_are_read_in_their_unit(tmp_path):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (12, 8)).save(folder / "images" / "0.png")
    values = np.linspace(0, 5, 96, dtype=np.float32).reshape(8, 12)
    values[2, 2] = np.nan
    np.save(folder / "depth.npy", values)
    line = {"id": "0", "image": "images/0.png", "depth": "depth.npy", "turns": []}
    (folder / "samples.jsonl").write_text(json.dumps(line) + "\n")
    info = {"format": "perceptio-data", "version": 1, "depth": {"unit": "disparity"}}
    (folder / "dataset.json").write_text(json.dumps(info))
    depth = FolderDataset(folder)[0].depth
    assert depth.unit == "disparity"
    np.testing.assert_array_equal(depth.values_HW, values)


def test_several_processes_write_what_one_writes(tmp_path):
    entries = [entry(f"room-{number}") for number in range(70)]
    done = []
    write_folder(tmp_path / "one", entries)
    write_folder(tmp_path / "two", entries, workers=2, progress=done.append)
    assert done[-1] == 70 and done == sorted(done)
    assert (tmp_path / "one" / "samples.jsonl").read_text() == (
        tmp_path / "two" / "samples.jsonl"
    ).read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"depth": DepthMap(values_HW=np.full((8, 12), 99.0, np.float32), unit="metres")},
            "the range of 16 bits",
        ),
        (
            {"depth": DepthMap(values_HW=np.ones((8, 12), np.float32), unit="disparity")},
            "has depth in disparity",
        ),
        ({"turns": (Turn(task="referring", question="?", answer=".", masks=(IDS == 0,)),)}, "kitchen"),
    ],
)
def test_an_entry_that_does_not_fit_leaves_no_folder(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        write_folder(tmp_path / "data", [entry(**changes)])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_only_when_asked_and_only_by_a_whole_one(tmp_path):
    folder = tmp_path / "data"
    write_folder(folder, [entry()])
    with pytest.raises(DataError, match="exists already: choose another folder"):
        write_folder(folder, [entry("hall")])
    bad = entry(depth=DepthMap(values_HW=np.full((8, 12), 99.0, np.float32), unit="metres"))
    with pytest.raises(DataError):
        write_folder(folder, [bad], replace=True)
    assert FolderDataset(folder).records[0].id == "kitchen"
    write_folder(folder, [entry("hall")], replace=True)
    assert FolderDataset(folder).records[0].id == "hall"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_full_disk_is_said_in_a_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("perceptio.data.folder.writer._save_png", full)
    with pytest.raises(DataError, match="is full.: make room. What was there before is unchanged"):
        write_folder(tmp_path / "data", [entry()])


def test_a_scale_can_be_chosen(tmp_path):
    far = DepthMap(values_HW=np.full((8, 12), 60.0, np.float32), unit="metres")
    info = DatasetInfo(depth_unit="metres", depth_scale=0.001)
    write_folder(tmp_path / "data", [entry(depth=far)], info=info)
    np.testing.assert_allclose(FolderDataset(tmp_path / "data")[0].depth.values_HW, 60.0, atol=1e-3)


ALL_NAN = DepthMap(values_HW=np.full((8, 12), np.nan, np.float32), unit="metres")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (entry(name="a\\b"), r"Entry 'a.*b' cannot be written: image .* must be a path inside the folder"),
        (entry(name="caf\udce9"), "cannot be written: image .* has characters that are not UTF-8"),
        (entry(name="n" * 252), "cannot be written: image .* longer than 255 bytes"),
        (entry(name="../a"), "must be a path inside"),
        (entry(image_HW3=np.zeros((8, 12), np.uint8)), r"a picture of uint8 \[8, 12\]: give uint8 RGB"),
        (entry(image_HW3=np.zeros((4, 12, 3), np.uint8)), "at least 8 pixels on each side"),
        (
            entry(depth=DepthMap(values_HW=np.ones((8, 8)), unit="metres")),
            "depth of .* they must have one size",
        ),
        (entry(depth=ALL_NAN), "has depth without a known pixel: leave it out"),
        (entry(object_ids_HW=np.full((8, 12), 256), turns=()), "object numbers outside 0 to 255"),
        (
            entry(turns=(Turn(task="chat", question="\ud800", answer=""),)),
            "cannot be written: the text .* has half a surrogate pair",
        ),
        (entry(turns=(Turn(task="relative_depth", question="?", answer="(B)"),)), "needs points"),
    ],
)
def test_what_the_reader_would_refuse_is_not_written(tmp_path, wrong, message):
    with pytest.raises(DataError, match=message):
        write_folder(tmp_path / "data", [entry("first"), wrong])
    assert not list(tmp_path.iterdir())


def test_two_entries_of_one_id_are_refused(tmp_path):
    with pytest.raises(DataError, match="Two entries have the id 'kitchen': ids must differ"):
        write_folder(tmp_path / "data", [entry(), entry()])


plain = st.fixed_dictionaries(
    {
        key: st.sampled_from(["chat", "", "relative_depth"]) | st.integers()
        for key in ("task", "question", "answer")
    },
    optional={"points": st.just([]), "objects": st.just([])},
)


@given(plain | st.none())
def test_a_turn_that_is_spared_the_rules_breaks_none(turn):
    rules = task_rules()
    if line_rules._is_plain_turn(turn, rules):
        assert list(line_rules._turn_problems(turn, False, rules)) == []


def test_a_line_ends_with_a_newline_and_nothing_else(tmp_path):
    folder = scenes_folder(tmp_path / "scenes", count=2)
    lines = (folder / "samples.jsonl").read_bytes().split(b"\n")
    asked = "one\u2028two\x85three\x0cfour"
    lines[0] = json.dumps(json.loads(lines[0]) | {"id": asked}, ensure_ascii=False).encode() + b"\r"
    (folder / "samples.jsonl").write_bytes(b"\n".join(lines))
    assert FolderDataset(folder).records[0].id == asked


def test_records_are_read_again_and_say_when_they_have_changed(tmp_path):
    folder = scenes_folder(tmp_path / "scenes", count=2)
    dataset = FolderDataset(folder)
    assert list(dataset.records) == list(parse_lines(folder))
    text = (folder / "samples.jsonl").read_bytes()
    (folder / "samples.jsonl").write_bytes(b" " * 10 + text[:-20])
    with pytest.raises(DataError, match="has changed since it was opened: open the folder again"):
        dataset.records[len(dataset) - 1]
