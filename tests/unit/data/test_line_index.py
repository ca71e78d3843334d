"""An index is what a reading of all lines finds; one that is stale, cut or of something else is never used."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import scenes_folder

from perceptio.data.folder import FolderDataset, kept, line_index, write_folder
from perceptio.data.folder.kept import INDEX_FILE
from perceptio.data.scenes import SceneSet, Split
from perceptio.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(line_index, "KEPT_FROM", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = scenes_folder(tmp_path / "data", count=3)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    del lines[0]["depth"], lines[1]["maps"], lines[2]["masks"]
    lines[2]["turns"] = []
    lines.append({"id": "talk", "turns": [{"task": "chat", "question": "?", "answer": "!"}]})
    (folder / "samples.jsonl").write_text("\n".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def checked(monkeypatch):
    """How often all lines are checked."""
    calls = []
    made = line_index._made
    monkeypatch.setattr(line_index, "_made", lambda *given: calls.append(1) or made(*given))
    return calls


def known(dataset):
    names = ("image", "depth", "masks", "objects", "normals", "none")
    return dataset.tasks, [dataset.with_target(name).tolist() for name in names], list(dataset.records)


def test_what_an_index_knows_is_what_the_lines_say(folder, checked):
    first = known(FolderDataset(folder))
    assert (folder / INDEX_FILE).is_file() and len(checked) == 1
    assert known(FolderDataset(folder)) == first and len(checked) == 1
    tasks, targets, records = first
    assert targets == [[0, 1, 2], [1, 2], [0, 1], [0, 1], [0, 2], []]
    for name, numbers in zip(("image", "depth", "masks", "objects", "normals"), targets, strict=False):
        assert numbers == [n for n, record in enumerate(records) if record.has_target(name)]
    assert list(tasks) == [{turn.task for turn in record.turns} for record in records]
    assert [record.line for record in records] == [1, 3, 5, 7]


def test_few_lines_are_not_indexed(tmp_path):
    folder = scenes_folder(tmp_path / "data", count=2)
    FolderDataset(folder)
    assert not (folder / INDEX_FILE).exists()


def rewritten(folder):
    lines = (folder / "samples.jsonl").read_text()
    time = (folder / "samples.jsonl").stat()
    (folder / "samples.jsonl").write_text(lines.replace('"chat"', '"chit"'))
    os.utime(folder / "samples.jsonl", ns=(time.st_atime_ns, time.st_mtime_ns))


def with_other_maps(folder):
    info = json.loads((folder / "dataset.json").read_text())
    info["maps"]["more"] = {"channels": 1, "low": 0, "high": 1}
    (folder / "dataset.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: os.utime(folder / "samples.jsonl", ns=(0, 0)),
        rewritten,
        with_other_maps,
        lambda folder: (folder / INDEX_FILE).write_bytes(b""),
        lambda folder: (folder / INDEX_FILE).write_bytes((folder / INDEX_FILE).read_bytes()[:-100]),
        lambda folder: np.savez(folder / INDEX_FILE, about=np.zeros(3, dtype=np.uint8)),
    ],
)
def test_an_index_that_does_not_hold_is_made_again(folder, checked, harm):
    FolderDataset(folder)
    harm(folder)
    dataset = FolderDataset(folder)
    assert len(checked) == 2 and len(dataset) == 4
    assert dataset.tasks[3] == {dataset.records[3].turns[0].task}
    FolderDataset(folder)
    assert len(checked) == 2, "and is kept"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_index_is_never_believed(folder, data):
    truth = known(FolderDataset(folder))
    held = bytearray((folder / INDEX_FILE).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        held[data.draw(st.integers(0, len(held) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / INDEX_FILE).write_bytes(held)
    assert known(FolderDataset(folder)) == truth


def test_a_folder_that_cannot_be_written_is_indexed_elsewhere(folder, tmp_path, checked, monkeypatch):
    def refuse(place):
        if place.name == INDEX_FILE:
            raise PermissionError(13, "Permission denied", str(place))
        return new_file(place)

    new_file = kept.new_file
    monkeypatch.setattr(kept, "new_file", refuse)
    FolderDataset(folder)
    assert not (folder / INDEX_FILE).exists()
    assert len(list((tmp_path / "cache" / "perceptio" / "indexes").iterdir())) == 1
    FolderDataset(folder)
    assert len(checked) == 1


def test_broken_lines_leave_no_index_and_a_writer_replaces_it(folder):
    FolderDataset(folder)
    write_folder(folder, SceneSet(split=Split.TRAIN, count=2, size=32), info=SceneSet.info, replace=True)
    assert len(FolderDataset(folder)) == 2
    (folder / INDEX_FILE).unlink()
    (folder / "samples.jsonl").write_text("{}")
    with pytest.raises(DataError, match='"id" is missing'):
        FolderDataset(folder)
    assert not (folder / INDEX_FILE).exists()
