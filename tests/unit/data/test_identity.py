"""What tells data folders apart."""

import hashlib
import shutil

import pytest
from small import scenes_folder

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.identity import hash_of_data, hash_of_samples, hash_of_targets
from perceptio.errors import DataError
from perceptio.ops.identity import BLOCK, BLOCKS, add_blocks


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


def test_other_bytes_in_a_file_of_the_same_size_are_other_data(folder, tmp_path):
    before = hash_of_data(FolderDataset(folder))
    depth = folder / FolderDataset(folder).records[0].depth
    held = bytearray(depth.read_bytes())
    held[len(held) // 2] ^= 1
    depth.write_bytes(held)
    assert hash_of_data(FolderDataset(folder)) != before
    large = tmp_path / "large"
    hashes = set()
    for changed in (None, 0, 2 * BLOCK * BLOCKS // 3 + 10, 2 * BLOCK * BLOCKS - 1):
        content = bytearray(2 * BLOCK * BLOCKS)
        if changed is not None:
            content[changed] = 1
        large.write_bytes(content)
        sha = hashlib.sha256()
        with large.open("rb") as file:
            add_blocks(sha, file)
        hashes.add(sha.hexdigest())
    assert len(hashes) == 4


def test_of_some_samples_their_own_files_count(folder):
    before = [hash_of_samples(FolderDataset(folder), numbers) for numbers in ([0], [1], [0, 1])]
    assert len(set(before)) == 3
    masks = folder / FolderDataset(folder).records[1].masks
    masks.write_bytes(masks.read_bytes() + b" ")
    after = [hash_of_samples(FolderDataset(folder), numbers) for numbers in ([0], [1], [0, 1])]
    assert after[0] == before[0] and after[1] != before[1] and after[2] != before[2]


def test_codes_care_for_depth_alone(folder):
    before = hash_of_targets(FolderDataset(folder), "depth")
    record = FolderDataset(folder).records[0]
    (folder / "samples.jsonl").write_text(
        (folder / "samples.jsonl").read_text().replace("closest", "nearest")
    )
    (folder / record.image).write_bytes((folder / record.image).read_bytes() + b" ")
    assert hash_of_targets(FolderDataset(folder), "depth") == before
    (folder / record.depth).write_bytes((folder / record.depth).read_bytes() + b" ")
    assert hash_of_targets(FolderDataset(folder), "depth") != before


def test_a_missing_file_is_named(folder):
    dataset = FolderDataset(folder)
    (folder / dataset.records[1].depth).unlink()
    with pytest.raises(DataError, match=r"depth/.*\.png cannot be read \(.*\): `perceptio data check` lists"):
        hash_of_data(dataset)
