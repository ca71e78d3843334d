"""What tells data folders apart: what they hold, wherever they lie."""

import hashlib
import os
from typing import BinaryIO

import attrs

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.dataset_info import INFO_FILE
from perceptio.data.folder.files import AnyFiles
from perceptio.data.folder.records import LINES_FILE
from perceptio.errors import DataError
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import format_json

BLOCK, BLOCKS = 16 * 1024, 4
"""Of a file of more than so many bytes in all, so many blocks of so many bytes count, spread evenly over it."""


def hash_of_data(dataset: FolderDataset) -> str:
    """A SHA-256 of `dataset.json`, of `samples.jsonl`, and of every file that samples name.

    Where the folder and its roots lie does not count. Of a file its size counts and `BLOCKS` blocks of it, which is
    all of a small one. A large one that is exchanged for another of exactly its size and equal in these blocks is not
    noticed.

    Raises:
        DataError: A file is missing.
    """
    sha = hashlib.sha256()
    sha.update(hashlib.sha256(_meaning(dataset)).digest())
    with (dataset.root / LINES_FILE).open("rb") as file:
        sha.update(hashlib.file_digest(file, "sha256").digest())
    for record in dataset.records:
        for held in record.files:
            _add_file(sha, dataset.files, held)
    return sha.hexdigest()


def hash_of_targets(dataset: FolderDataset, name: str) -> str:
    """A SHA-256 of `dataset.json`, and of the ids and the files of the samples with a target, as in `hash_of_data`.

    What the files are called does not count: a packed folder has the targets of the folder that it was packed from.

    Args:
        dataset: The folder.
        name: The target of a stream that is written per image: `"image"`, `"depth"`, or the name of a map.

    Raises:
        DataError: A file is missing.
    """
    sha = hashlib.sha256(_meaning(dataset))
    for number in dataset.with_target(name).tolist():
        record = dataset.records[number]
        file = record.target_file(name)
        assert file is not None
        sha.update(f"{record.id}\n".encode())
        if file == LINES_FILE:
            sha.update(repr(record.masks).encode())
        else:
            _add_file(sha, dataset.files, file)
    return sha.hexdigest()


def _meaning(dataset: FolderDataset) -> bytes:
    """`dataset.json`, but for the places of its roots."""
    if not dataset.info.roots:
        return (dataset.root / INFO_FILE).read_bytes()
    return format_json(attrs.evolve(dataset.info, roots={}).to_json(), indent=1).encode()


def _add_file(sha: "hashlib._Hash", files: AnyFiles, name: str) -> None:
    """Add the size and blocks of a file that a sample names to a hash."""
    remedy = "`perceptio data check` lists all such files of a folder"
    with (
        parsing(DataError, f"{files.where(name)} cannot be read ({{reason}}): {remedy}."),
        files.opened(name) as file,
    ):
        _add(sha, file)


def _add(sha: "hashlib._Hash", file: BinaryIO) -> None:
    """Add the size and blocks of a file to a hash."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    sha.update(f"{size}\n".encode())
    if size <= BLOCK * BLOCKS:
        sha.update(file.read())
        return
    for number in range(BLOCKS):
        file.seek(number * (size - BLOCK) // (BLOCKS - 1))
        sha.update(file.read(BLOCK))
