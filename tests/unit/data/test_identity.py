"""What tells data folders apart."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import scenes_folder

from perceptio.data.folder import FolderDataset, identity, kept
from perceptio.data.folder.identity import hash_of_data, hash_of_samples, hash_of_targets
from perceptio.data.folder.pack import pack_folder
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


@pytest.fixture
def read(monkeypatch, tmp_path):
    """The files that hashes have read; all hashes are kept, of files however new."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "KEPT_FROM", 1)
    monkeypatch.setattr(identity, "SETTLED_S", 0.0)
    names, add_file = [], identity._add_file
    monkeypatch.setattr(
        identity, "_add_file", lambda sha, files, name: names.append(name) or add_file(sha, files, name)
    )
    return names


def hashes(folder):
    dataset = FolderDataset(folder)
    return hash_of_data(dataset), hash_of_targets(dataset, "depth"), hash_of_targets(dataset, "objects")


def test_files_that_have_not_changed_are_read_once(folder, read):
    first = hashes(folder)
    assert len(read) == 2 * 5 + 2 + 2  # Picture, depth, masks and two maps of each sample; depth; masks.
    assert hashes(folder) == first and len(read) == 14
    (folder / "samples.jsonl").write_text((folder / "samples.jsonl").read_text() + "\n")
    assert hashes(folder)[0] != first[0] and hashes(folder)[1:] == first[1:]


def in_place(file):
    held = bytearray(file.read_bytes())
    held[-1] ^= 1
    file.write_bytes(held)


def by_rename(file):
    in_place(other := Path(shutil.copy2(file, file.with_name("other"))))
    other.rename(file)


@pytest.mark.parametrize("change", [in_place, by_rename])
def test_a_change_of_the_same_size_that_keeps_the_time_is_read_again(folder, read, change):
    first, file = hashes(folder), folder / FolderDataset(folder).records[1].depth
    time = file.stat()
    change(file)
    os.utime(file, ns=(time.st_atime_ns, time.st_mtime_ns))
    assert file.stat().st_size == time.st_size and file.stat().st_mtime_ns == time.st_mtime_ns
    changed = hashes(folder)
    assert changed[0] != first[0] and changed[1] != first[1] and changed[2] == first[2]
    shutil.rmtree(folder / "depth")
    with pytest.raises(DataError, match="cannot be read"):
        hashes(folder)


def test_a_copy_and_another_root_are_read_and_are_the_same(folder, read, tmp_path):
    lines = (folder / "samples.jsonl").read_text().replace('"depth/', '"root:depth/')
    (folder / "samples.jsonl").write_text(lines)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(info | {"roots": {"root": "."}}))
    first = hashes(folder)
    before = len(read)
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy2)
    assert (copy / ".data.hash.npz").exists() and hashes(copy) == first and len(read) == 2 * before
    (copy / "dataset.json").write_text(json.dumps(info | {"roots": {"root": str(folder)}}))
    assert hashes(copy)[0] == first[0] and len(read) > 2 * before
    before = len(read)
    assert hashes(copy) == first and len(read) == before


def test_what_was_changed_a_moment_ago_is_not_believed_to_stay(folder, read, monkeypatch):
    monkeypatch.setattr(identity, "SETTLED_S", 2.0)
    first = hashes(folder)
    assert not list(folder.glob(".*.hash.npz"))
    add_file = identity._add_file

    def slowly(sha, files, name):  # While files are read, one of them changes.
        add_file(sha, files, name)
        os.utime(folder / FolderDataset(folder).records[0].image)

    monkeypatch.setattr(identity, "SETTLED_S", 0.0)
    monkeypatch.setattr(identity, "_add_file", slowly)
    assert hash_of_data(FolderDataset(folder)) == first[0]
    assert not (folder / ".data.hash.npz").exists()
    monkeypatch.setattr(identity, "_add_file", add_file)
    assert hashes(folder) == first and len(list(folder.glob(".*.hash.npz"))) == 3


def test_a_folder_that_cannot_be_written_keeps_its_hashes_in_the_cache(folder, read, tmp_path, monkeypatch):
    new_file = kept.new_file

    def refuse(place):
        if place.is_relative_to(folder):
            raise PermissionError(13, "Permission denied", str(place))
        return new_file(place)

    monkeypatch.setattr(kept, "new_file", refuse)
    first, before = hashes(folder), len(read)
    assert not list(folder.glob(".*.hash.npz"))
    assert len(list((tmp_path / "cache" / "perceptio" / "indexes").iterdir())) == 3
    assert hashes(folder) == first and len(read) == before


def test_few_files_keep_no_hash(folder):
    hashes(folder)
    assert not list(folder.glob(".*.hash.npz"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_hash_is_never_believed(folder, read, data):
    truth = hash_of_data(FolderDataset(folder))
    file = folder / ".data.hash.npz"
    held = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        held[data.draw(st.integers(0, len(held) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(held)
    assert hash_of_data(FolderDataset(folder)) == truth


def test_a_packed_folder_knows_its_hash_and_reads_none_of_its_files(folder, read, tmp_path):
    packed = tmp_path / "packed"
    pack_folder(folder, packed)
    read.clear()
    assert hash_of_data(FolderDataset(packed)) == hash_of_data(FolderDataset(folder))
    assert len(read) == 10  # Of the folder.
    (packed / ".data.hash.npz").unlink()
    assert hash_of_data(FolderDataset(packed)) == hash_of_data(FolderDataset(folder))
    assert len(read) == 20
    in_place(folder / FolderDataset(folder).records[0].image)
    pack_folder(folder, tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "shards", packed / "shards", dirs_exist_ok=True)
    shutil.copy(tmp_path / "other" / "shards.index.npz", packed)
    assert hash_of_data(FolderDataset(packed)) == hash_of_data(FolderDataset(folder))


# What these folders were known by before hashes were kept, and what runs of then are resumed by.
PLAIN = "61a2febf6ec1071fb48dc9025c237478e2aeb950b21add185cbdec8bd572e36a"
TARGETS = "75dcc2bf73bd4577bac012eddb0cb879dd26ba2ed529fd05eea17bde8bd907d8"


def test_hashes_are_those_of_earlier_releases(tmp_path):
    for name, content in {
        "images/a.png": b"a" * 10,
        "depth/a.npy": bytes(range(256)) * 1000,
        "dataset.json": b'{"format": "perceptio-data", "version": 1, "depth": {"unit": "metres"}}',
        "samples.jsonl": b'{"id": "a", "image": "images/a.png", "depth": "depth/a.npy", "turns": []}\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    dataset = FolderDataset(tmp_path)
    assert (hash_of_data(dataset), hash_of_targets(dataset, "depth")) == (PLAIN, TARGETS)
