"""What tells data folders apart."""

import shutil

import pytest
from small import scenes_folder

from perceptio.data.folder import FolderDataset
from perceptio.data.identity import hash_of_data, hash_of_depth
from perceptio.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return scenes_folder(tmp_path / "data", count=2)


def test_a_copy_is_the_same_and_a_change_of_anything_another(folder, tmp_path):
    hashes = {hash_of_data(FolderDataset(folder))}
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert {hash_of_data(FolderDataset(copy))} == hashes
    records = FolderDataset(copy).records
    for name in (records[0].image, records[1].depth, records[1].masks, "samples.jsonl", "dataset.json"):
        with (copy / name).open("ab") as file:
            file.write(b" ")
        hashes.add(hash_of_data(FolderDataset(copy)))
    assert len(hashes) == 6


def test_codes_care_for_depth_alone(folder):
    before = hash_of_depth(FolderDataset(folder))
    record = FolderDataset(folder).records[0]
    (folder / "samples.jsonl").write_text(
        (folder / "samples.jsonl").read_text().replace("closest", "nearest")
    )
    (folder / record.image).write_bytes((folder / record.image).read_bytes() + b" ")
    assert hash_of_depth(FolderDataset(folder)) == before
    (folder / record.depth).write_bytes((folder / record.depth).read_bytes() + b" ")
    assert hash_of_depth(FolderDataset(folder)) != before


def test_a_missing_file_is_named(folder):
    dataset = FolderDataset(folder)
    (folder / dataset.records[1].depth).unlink()
    with pytest.raises(DataError, match=r"depth/.*\.png cannot be read"):
        hash_of_data(dataset)
