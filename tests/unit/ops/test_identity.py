"""What weights hold tells them apart; where they lie does not."""

import hashlib
import json

import pytest
import torch

from perceptio.errors import CheckpointError
from perceptio.ops import identity
from perceptio.ops.identity import hash_of_files, hash_of_tensors


def sha(*held):
    hashes = [hashlib.sha256(one).hexdigest() for one in held]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_a_file_and_a_folder_with_it_are_the_same(folder):
    (folder / "model.safetensors").write_bytes(b"values")
    (folder / "optimizer.safetensors").write_bytes(b"of no interest")
    assert hash_of_files(str(folder)) == hash_of_files(str(folder / "model.safetensors")) == sha(b"values")


def test_shards_count_by_their_index(folder):
    index = {
        "weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors", "c": "model-1.safetensors"}
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1.safetensors").write_bytes(b"one")
    (folder / "model-2.safetensors").write_bytes(b"two")
    (folder / "model-3.safetensors").write_bytes(b"left over")
    (folder / "model.safetensors").write_bytes(b"not read where there is an index")
    assert hash_of_files(str(folder)) == sha(b"one", b"two")


def test_other_folders_count_by_their_weights_or_by_everything(folder):
    (folder / "tokenizer.json").write_bytes(b"words")
    assert hash_of_files(str(folder)) == sha(b"words")
    (folder / "sam2.pt").write_bytes(b"masks")
    assert hash_of_files(str(folder)) == sha(b"masks")


@pytest.mark.parametrize("weights", ["nowhere/at-all", "/nowhere/at/all", "not a name"])
def test_what_is_not_here_is_absent(weights, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hash_of_files(weights) == "absent"


def test_an_empty_folder_is_absent(folder):
    assert hash_of_files(str(folder)) == "absent"


def test_the_hubs_cache_has_said_the_hash_already(folder):
    named = "ab" * 32
    (folder / "blobs").mkdir()
    (folder / "blobs" / named).write_bytes(b"gigabytes")
    (folder / "snapshot").mkdir()
    (folder / "snapshot" / "model.safetensors").symlink_to(folder / "blobs" / named)
    assert hash_of_files(str(folder / "snapshot")) == named


def test_a_file_is_read_once_until_it_changes(folder):
    file = folder / "model.safetensors"
    file.write_bytes(b"before")
    misses = identity._hash.cache_info().misses
    first = hash_of_files(str(folder))
    assert hash_of_files(str(folder)) == hash_of_files(str(file)) == first
    assert identity._hash.cache_info().misses == misses + 1
    file.write_bytes(b"after it")
    assert hash_of_files(str(folder)) == sha(b"after it") != first


def test_tensors_differ_by_name_type_shape_or_value():
    ones = torch.ones(2, 3)
    different = [
        {"a": ones},
        {"b": ones},
        {"a": ones.bfloat16()},
        {"a": ones.T},
        {"a": 2 * ones},
        {"a": torch.tensor(1.0)},
        {"a": torch.tensor(True)},
    ]
    assert len({hash_of_tensors(tensors) for tensors in different}) == len(different)
    assert hash_of_tensors({"a": ones, "b": ones.T}) == hash_of_tensors(
        {"b": ones.T.clone(), "a": ones.clone()}
    )


def test_a_hub_id_counts_by_the_copy_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository, commit = tmp_path / "models--acme--base", "c0" * 20
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "model.safetensors").write_bytes(b"values")
    assert hash_of_files("acme/base") == sha(b"values")


def test_tensors_are_hashed_again_only_when_they_have_changed(monkeypatch):
    hashed = []
    monkeypatch.setattr(identity.hashlib, "sha256", lambda: hashed.append(1) or hashlib.new("sha256"))
    tensors = {"a": torch.arange(7, dtype=torch.bfloat16), "b": torch.ones(3, 3)[1:], "c": torch.tensor(2.0)}
    first = hash_of_tensors(tensors)
    assert hash_of_tensors(tensors) == first == hash_of_tensors({k: v.clone() for k, v in tensors.items()})
    assert len(hashed) == 2
    tensors["b"].data[0, 0] = 5.0
    changed = hash_of_tensors(tensors)
    assert changed != first and len(hashed) == 3
    tensors["a"].data[-1] = 0
    assert hash_of_tensors(tensors) not in (first, changed)


def test_a_file_that_cannot_be_read_is_a_sentence(folder, monkeypatch):
    (folder / "model.safetensors").write_bytes(b"values")
    monkeypatch.setattr(
        identity, "_hash_of_file", lambda _: (_ for _ in ()).throw(PermissionError(13, "denied"))
    )
    with pytest.raises(
        CheckpointError, match="cannot be read .*denied.*: check the path and who may read it"
    ):
        hash_of_files(str(folder))
