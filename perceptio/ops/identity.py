"""What tells weights apart: hashes of files, whatever their path, and of tensors, whatever their files."""

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from perceptio.ops.hub import find
from perceptio.ops.weights import INDEX, WEIGHTS, indexed_files

SHA256 = re.compile(r"[0-9a-f]{64}")
SUFFIXES = {".safetensors", ".pt", ".pth", ".bin"}


def hash_of_files(weights: str) -> str:
    """A SHA-256 of what a file, a folder or a hub id holds; "absent" where nothing of it is on this machine.

    A folder counts by the shards of its index, or else by `model.safetensors`, as `load_tensors` reads it, or else by
    every file that looks like weights, or else by every file. Each file is read once in a process, unless it changes.
    """
    path = find(weights)
    hashes = [] if path is None else [_hash_of_file(file) for file in _files(path)]
    if len(hashes) > 1:
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    return hashes[0] if hashes else "absent"


def hash_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A SHA-256 of names, types, shapes and values."""
    sha = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
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
