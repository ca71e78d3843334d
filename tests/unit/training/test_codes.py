"""Codes of a data folder's images, in memory and on disk."""

import json
import shutil

import attrs
import numpy as np
import pytest
import torch
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.training.codes import codes_in, encode_targets, read_codes, tokenizer_fingerprint
from perceptio.training.codes import write_codes as write


@pytest.fixture
def folder(tmp_path):
    """Four scenes, the second without depth."""
    folder = scenes_folder(tmp_path / "data", count=4)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    (folder / lines[1].pop("depth")).unlink()
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_codes(folder, tokenizer, progress=None, into=None):
    return write(FolderDataset(folder), tokenizer, codes_in(into or folder, "depth"), progress)


def tokenizer(**changes):
    torch.manual_seed(0)
    return attrs.evolve(small_recipe().stream("depth").tokenizer, **changes).build().eval()


def test_codes_on_disk_are_those_of_the_samples_with_depth(folder):
    held = tokenizer()
    seen = []
    assert write_codes(folder, held, lambda *at: seen.append(at)) == 3 and seen == [(3, 3)]
    codes_nL = np.load(folder / "codes" / "depth.npy")
    index = json.loads((folder / "codes" / "depth.json").read_text())
    records = FolderDataset(folder).records
    assert codes_nL.dtype == np.uint8 and index["codebook_sizes"] == [8]
    assert index["ids"] == [records[row].id for row in (0, 2, 3)]
    np.testing.assert_array_equal(codes_nL, encode_targets(held, FolderDataset(folder))[[0, 2, 3]].numpy())


def test_many_codes_take_two_bytes(folder):
    write_codes(folder, tokenizer(codebook_size=257))
    assert np.load(folder / "codes" / "depth.npy").dtype == np.uint16


def test_a_folder_that_cannot_be_written(folder):
    (folder / "codes" / "depth.npy").mkdir(parents=True)
    with pytest.raises(DataError, match="could not be written .*What was there before is unchanged"):
        write_codes(folder, tokenizer())


def test_codes_are_read_where_they_are_of_the_tokenizer_and_the_maps(folder, tmp_path):
    held = tokenizer()
    assert read_codes(codes_in(folder, "depth"), FolderDataset(folder), held) is None
    write_codes(folder, held, into=tmp_path / "elsewhere")
    assert not (folder / "codes" / "depth.npy").exists()
    write_codes(folder, held)
    dataset = FolderDataset(folder)
    codes_nL = encode_targets(held, dataset)
    assert torch.equal(read_codes(codes_in(folder, "depth"), dataset, held), codes_nL)
    assert torch.equal(read_codes(codes_in(tmp_path / "elsewhere", "depth"), dataset, held), codes_nL)

    other = tokenizer()
    with torch.no_grad():
        other.codebook_KC[0, 0] += 1
    said = []
    assert read_codes(codes_in(folder, "depth"), dataset, other, said.append) is None
    (sentence,) = said
    assert "codes that are there are not used" in sentence and "codes/depth.npy" in sentence
    own, others = tokenizer_fingerprint(held), tokenizer_fingerprint(other)
    assert sentence.endswith(f"holds codes of the tokenizer {own!r}, and the recipe's is {others!r}.")
    shutil.copy(folder / dataset.records[0].image, folder / dataset.records[2].depth)
    assert read_codes(codes_in(folder, "depth"), dataset, held, said.append) is None
    assert said[1].endswith("holds codes of other targets 'depth' than the folder has now.")


def test_a_packed_folder_has_the_codes_of_its_folder(folder, tmp_path, monkeypatch):
    from perceptio.data.folder.pack import pack_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    held = tokenizer()
    write_codes(folder, held)
    pack_folder(folder, "memory://codes/packed")
    dataset = FolderDataset("memory://codes/packed")
    codes_nL = read_codes(codes_in(dataset.root, "depth"), dataset, held, pytest.fail)
    assert torch.equal(codes_nL, encode_targets(held, FolderDataset(folder)))


def test_codes_that_are_not_what_their_index_says_are_refused(folder):
    held, dataset = tokenizer(), FolderDataset(folder)
    write_codes(folder, held)
    np.save(folder / "codes" / "depth.npy", np.full((3, 16), 8, dtype=np.uint8))
    with pytest.raises(
        DataError,
        match=r"holds codes that go from 8 to 8 and not from 0 to 7.* and depth.json speaks of \[3, 16\]",
    ):
        read_codes(codes_in(folder, "depth"), dataset, held)
    (folder / "codes" / "depth.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="cannot be read as NPY .* Or remove it, and depth.json"):
        read_codes(codes_in(folder, "depth"), dataset, held)


def test_a_fingerprint_is_of_values_and_sizes():
    same, held = tokenizer(), tokenizer()
    assert tokenizer_fingerprint(held) == tokenizer_fingerprint(same)
    with torch.no_grad():
        same.codebook_KC[0, 0] += 1
    assert tokenizer_fingerprint(held) != tokenizer_fingerprint(same)
    finer = tokenizer(image_size=(32, 32), grid=(8, 8))
    finer.load_state_dict(held.state_dict())
    assert tokenizer_fingerprint(held) != tokenizer_fingerprint(finer)
    assert len(tokenizer_fingerprint(held.bfloat16())) == 16
