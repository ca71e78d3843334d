"""A packed folder gives the same samples to the bit, wherever it lies; what is not whole is refused."""

import json
import shutil
import tarfile

import fsspec
import numpy as np
import pytest
from small import scenes_folder

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.check import check_folder
from perceptio.data.folder.identity import hash_of_data, hash_of_targets
from perceptio.data.folder.pack import pack_folder
from perceptio.errors import DataError
from perceptio.ops.files import folder_lock


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def folder(tmp_path):
    folder = scenes_folder(tmp_path / "data", count=4)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    lines[1]["image"] = lines[0]["image"]  # One picture of two samples.
    (folder / "images" / lines[2]["image"].split("/")[1]).rename(folder / "images" / ("é" * 100 + ".png"))
    lines[2]["image"] = "images/" + "é" * 100 + ".png"
    np.save(folder / "maps" / "n.npy", np.full((32, 32, 3), 0.5, dtype=np.float32))
    lines[3]["maps"]["normals"] = "maps/n.npy"
    lines.append({"id": "talk", "turns": [{"task": "chat", "question": "?", "answer": "!"}]})
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def assert_same(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert (first.id, first.ordered, first.turns == second.turns or len(first.turns)) == (
            second.id,
            second.ordered,
            first.turns == second.turns or len(second.turns),
        )
        if first.image_3HW is None:
            assert second.image_3HW is None
            continue
        assert (first.image_3HW == second.image_3HW).all()
        np.testing.assert_array_equal(first.depth.values_HW, second.depth.values_HW)
        assert set(first.maps) == set(second.maps)
        for name in first.maps:
            np.testing.assert_array_equal(first.maps[name], second.maps[name])
        np.testing.assert_array_equal(first.target("objects"), second.target("objects"))
        for asked, again in zip(first.turns, second.turns, strict=True):
            assert (asked.question, asked.answer) == (again.question, again.answer)
            np.testing.assert_array_equal(asked.masks, again.masks)


@pytest.mark.parametrize("shard_size", [1, 4000, 2**30])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_packed_folder_gives_the_same_samples(folder, tmp_path, shard_size, elsewhere):
    out = "memory://corpora/scenes" if elsewhere else tmp_path / "packed"
    seen = []
    packed = pack_folder(folder, out, shard_size=shard_size, progress=lambda *at: seen.append(at))
    files = {name for record in FolderDataset(folder).records for name in record.files}
    assert packed.files == len(files) and packed.samples == 5 and seen[-1] == (5, 5)
    assert packed.shards == {1: len(files), 4000: packed.shards, 2**30: 1}[shard_size] and packed.shards >= 1
    dataset, whole = FolderDataset(out), FolderDataset(folder)
    assert_same(dataset, whole)
    assert str(dataset.name) == str(out)
    assert dataset.tasks == whole.tasks and dataset.with_target("depth").tolist() == [0, 1, 2, 3]
    assert hash_of_data(dataset) == hash_of_data(whole)
    assert hash_of_targets(dataset, "normals") == hash_of_targets(whole, "normals")
    assert check_folder(out).problems == ()


def test_any_tar_opens_a_shard_with_the_files_as_they_were(folder, tmp_path):
    pack_folder(folder, tmp_path / "packed")
    with tarfile.open(tmp_path / "packed" / "shards" / "00000.tar", "r:") as shard:
        members = shard.getmembers()
        assert len(members) == len(
            {name for record in FolderDataset(folder).records for name in record.files}
        )
        for member in members:
            assert shard.extractfile(member).read() == (folder / member.name).read_bytes()


def test_a_packed_folder_has_no_roots(folder, tmp_path):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    info = json.loads((folder / "dataset.json").read_text()) | {"roots": {"scenes": str(folder)}}
    for line in lines[:4]:
        line |= {key: f"scenes:{line[key]}" for key in ("image", "depth", "masks")}
        line["maps"] = {name: f"scenes:{file}" for name, file in line["maps"].items()}
    rooted = tmp_path / "rooted"
    rooted.mkdir()
    (rooted / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (rooted / "dataset.json").write_text(json.dumps(info))
    pack_folder(rooted, tmp_path / "packed")
    dataset = FolderDataset(tmp_path / "packed")
    assert dataset.info.roots == {} and dataset.records[0].image.startswith("roots/scenes/images/")
    assert_same(dataset, FolderDataset(folder))
    assert hash_of_targets(dataset, "depth") == hash_of_targets(FolderDataset(rooted), "depth")


def without_index(packed):
    (packed / "shards.index.npz").unlink()


def cut_index(packed):
    file = packed / "shards.index.npz"
    file.write_bytes(file.read_bytes()[:-30])


def no_index(packed):
    np.savez(packed / "shards.index.npz", about=np.zeros(2, np.uint8))


def without_shard(packed):
    (packed / "shards" / "00001.tar").unlink()


def cut_shard(packed):
    file = packed / "shards" / "00001.tar"
    file.write_bytes(file.read_bytes()[:-512])


def other_index(packed):
    shutil.copy(packed.parent / "other" / "shards.index.npz", packed / "shards.index.npz")


def without_shards(packed):
    shutil.rmtree(packed / "shards")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without_index, "has shards and no shards.index.npz: copy that from where it was packed"),
        (cut_index, "shards.index.npz cannot be read .*: copy it again from where it was packed"),
        (no_index, "shards.index.npz cannot be read"),
        (without_shard, "shards/00001.tar is missing: copy it from where the folder was packed"),
        (
            cut_shard,
            "shards/00001.tar has .* bytes, and shards.index.npz speaks of .*: it is cut short or of",
        ),
        (other_index, "bytes, and shards.index.npz speaks of .*: it is cut short or of another packing"),
        (without_shards, "shards/00000.tar is missing: copy it from where the folder was packed"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_is_not_whole_is_refused(folder, tmp_path, harm, message, elsewhere):
    packed = tmp_path / "packed"
    pack_folder(folder, packed, shard_size=4000)
    pack_folder(scenes_folder(tmp_path / "more", count=6), tmp_path / "other", shard_size=8000)
    harm(packed)
    if elsewhere:
        fsspec.filesystem("memory").put(str(packed), "/corpora/bad", recursive=True)
    with pytest.raises(DataError, match=message):
        FolderDataset("memory://corpora/bad" if elsewhere else packed)


def test_a_shard_of_the_same_size_with_something_else_is_noticed(folder, tmp_path):
    packed = tmp_path / "packed"
    pack_folder(folder, packed)
    shard = packed / "shards" / "00000.tar"
    held = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        member = next(one for one in tar.getmembers() if one.name == FolderDataset(folder).records[3].image)
    held[member.offset_data + 40] ^= 1
    shard.write_bytes(held)
    dataset = FolderDataset(packed)
    assert dataset[0].image_3HW is not None
    with pytest.raises(
        DataError, match="is not what was packed: shards/00000.tar is damaged or of another packing"
    ):
        dataset[3]
    (problem,) = check_folder(packed).problems
    assert problem.line == 4 and "is not what was packed" in problem.message


def test_a_name_that_no_shard_holds_is_said(folder, tmp_path):
    packed = tmp_path / "packed"
    pack_folder(folder, packed)
    lines = (packed / "samples.jsonl").read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"image": "images/none.png"})
    (packed / "samples.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="is in no shard: name a file that was packed, or pack again"):
        FolderDataset(packed)[0]


@pytest.mark.parametrize("out", ["packed", "memory://corpora/part"])
def test_a_packing_that_is_stopped_leaves_nothing_that_is_read(folder, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)

    def stop(done, count):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_folder(folder, out, shard_size=4000, progress=stop)
    with pytest.raises(DataError, match="is not finished"):
        FolderDataset(out)
    pack_folder(folder, out)
    assert_same(FolderDataset(out), FolderDataset(folder))
    with pytest.raises(DataError, match="holds a data folder already: choose another place"):
        pack_folder(folder, out)


def test_what_cannot_be_packed_is_said(folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty: choose another place"):
        pack_folder(folder, tmp_path / "full")
    (folder / FolderDataset(folder).records[3].depth).unlink()
    with pytest.raises(
        DataError, match=r"samples.jsonl line 4: .*depth/.* cannot be read .*`perceptio data check`"
    ):
        pack_folder(folder, tmp_path / "packed")
    with pytest.raises(DataError, match="is not finished"):
        FolderDataset(tmp_path / "packed")


def test_addresses_that_hold_no_packed_folder(folder):
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/corpora/plain", recursive=True)
    with pytest.raises(DataError, match="memory://corpora/none has no dataset.json, so it is no data folder"):
        FolderDataset("memory://corpora/none")
    with pytest.raises(DataError, match="is not packed, and only packed folders are read from elsewhere"):
        FolderDataset("memory://corpora/plain")


def test_what_changes_at_an_address_is_copied_again(folder, tmp_path):
    address = "memory://corpora/scenes"
    pack_folder(folder, address)
    assert len(FolderDataset(address)) == 5
    memory = fsspec.filesystem("memory")
    lines = memory.cat_file("/corpora/scenes/samples.jsonl").splitlines()
    memory.pipe_file("/corpora/scenes/samples.jsonl", b"\n".join(lines[:3]))
    assert len(FolderDataset(address)) == 3


def test_two_packings_into_one_folder_exclude_each_other(folder, tmp_path):
    packed = tmp_path / "packed"
    with (
        folder_lock(packed),
        pytest.raises(DataError, match="packed could not be written .another process is w"),
    ):
        pack_folder(folder, packed)
    locked = []
    pack_folder(folder, packed, progress=lambda *_: locked.append(is_locked(packed)))
    assert locked and all(locked) and not is_locked(packed)
    assert_same(FolderDataset(packed), FolderDataset(folder))


def is_locked(folder):
    try:
        with folder_lock(folder):
            return False
    except BlockingIOError:
        return True
