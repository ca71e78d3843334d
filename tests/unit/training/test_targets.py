"""Depth codes of a data folder, in memory and on disk."""

import json

import attrs
import numpy as np
import pytest
import torch
from small import scenes_folder, small_recipe

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.training.targets import encode_depth, tokenizer_fingerprint, write_codes


@pytest.fixture
def folder(tmp_path):
    """Four scenes, the second without depth."""
    folder = scenes_folder(tmp_path / "data", count=4)
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    (folder / lines[1].pop("depth")).unlink()
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def tokenizer(**changes):
    torch.manual_seed(0)
    return attrs.evolve(small_recipe().depth, **changes).build().eval()


def test_codes_on_disk_are_those_of_the_samples_with_depth(folder):
    held = tokenizer()
    seen = []
    assert write_codes(folder, held, lambda *at: seen.append(at)) == 3 and seen == [(4, 4)]
    codes_nL = np.load(folder / "depth_codes.npy")
    index = json.loads((folder / "depth_codes.json").read_text())
    records = FolderDataset(folder).records
    assert codes_nL.dtype == np.uint8 and index["codebook_size"] == 8
    assert index["ids"] == [records[row].id for row in (0, 2, 3)]
    np.testing.assert_array_equal(codes_nL, encode_depth(held, FolderDataset(folder))[[0, 2, 3]].numpy())


def test_many_codes_take_two_bytes(folder):
    write_codes(folder, tokenizer(codebook_size=257))
    assert np.load(folder / "depth_codes.npy").dtype == np.uint16


def test_a_folder_that_cannot_be_written(folder):
    (folder / "depth_codes.npy").mkdir()
    with pytest.raises(DataError, match="could not be written .*What was there before is unchanged"):
        write_codes(folder, tokenizer())


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
