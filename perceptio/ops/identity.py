"""Identity of files and weights: hashes of files, independent of their path, and of tensors, independent of files."""

import functools
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from perceptio.errors import CheckpointError
from perceptio.ops.foreign import parsing
from perceptio.ops.hub import find
from perceptio.ops.weights import CHECKPOINT, INDEX, WEIGHTS, indexed_files

SHA256 = re.compile(r"[0-9a-f]{64}")
KNOWN = 16
"""Number of tensor hashes that are cached, one per frozen part."""
_known: dict[tuple, str] = {}
ABSENT = "absent"
"""Stands for the hash of weights that are not on this machine."""
SUFFIXES = {".safetensors", ".pt", ".pth", ".bin"}
BLOCK, BLOCKS = 16 * 1024, 4
"""For files larger than their product: size and number of the evenly spaced blocks that are hashed."""


def add_blocks(sha: "hashlib._Hash", file: BinaryIO) -> None:
    """Add to a hash the size of a file and `BLOCKS` blocks of it, which is all of a small one.

    A large file that is replaced by one of the same size with the same blocks is not detected.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    sha.update(f"{size}\n".encode())
    if size <= BLOCK * BLOCKS:
        sha.update(file.read())
        return
    for number in range(BLOCKS):
        file.seek(number * (size - BLOCK) // (BLOCKS - 1))
        sha.update(file.read(BLOCK))


def hash_of_files(weights: str) -> str:
    """Return a SHA-256 of the content of a file, a folder or a hub id; `ABSENT` if it is not on this machine.

    For a run's folder, its checkpoint is hashed. For other folders, the hash covers the shards of its index, or
    otherwise `model.safetensors`, as `load_tensors` reads it, or otherwise every file that looks like weights, or
    otherwise every file. Each file is read once per process, unless it changes.

    Raises:
        CheckpointError: A file cannot be read.
    """
    with parsing(
        CheckpointError, f"{weights} cannot be read ({{reason}}): check the path and who may read it."
    ):
        path = find(weights)
        hashes = [] if path is None else [_hash_of_file(file) for file in _files(path)]
    if len(hashes) > 1:
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    return hashes[0] if hashes else ABSENT


def hash_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 of names, types, shapes and values.

    Tensors with the same memory address and the same sum of bytes as before are not hashed again, which saves time
    for frozen parts at every save: the sum costs almost nothing on a GPU, and a tenth of the hash on a CPU.
    """
    named = sorted(tensors.items())
    key = tuple(
        (name, value.dtype, tuple(value.shape), value.data_ptr(), _sum_of_bytes(value))
        for name, value in named
    )
    if key not in _known:
        sha = hashlib.sha256()
        for name, value in named:
            sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        while len(_known) >= KNOWN:
            _known.pop(next(iter(_known)))
        _known[key] = sha.hexdigest()
    return _known[key]


def _sum_of_bytes(value: Tensor) -> int:
    bytes_N = value.detach().contiguous().flatten().view(torch.uint8)
    if bytes_N.storage_offset() % 8:
        bytes_N = bytes_N.clone()
    whole = len(bytes_N) - len(bytes_N) % 8
    return int(bytes_N[:whole].view(torch.int64).sum() + bytes_N[whole:].sum())


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / CHECKPOINT).is_dir():
        path = path / CHECKPOINT
    if (path / INDEX).is_file():
        return [file for file in indexed_files(path) if file.is_file()]
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    files = sorted(file for file in path.iterdir() if file.is_file())
    return [file for file in files if file.suffix in SUFFIXES] or files


def _hash_of_file(file: Path) -> str:
    file = file.resolve()
    if file.parent.name == "blobs" and SHA256.fullmatch(file.name):
        return file.name  # The hub's cache names large files by their SHA-256.
    state = file.stat()
    return _hash(file, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=1024)
def _hash(file: Path, modified: int, size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
