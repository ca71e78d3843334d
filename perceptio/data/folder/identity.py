"""What tells data folders apart: what they hold, wherever they lie."""

import hashlib
from collections.abc import Iterable

import attrs

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.dataset_info import INFO_FILE
from perceptio.data.folder.files import AnyFiles
from perceptio.data.folder.records import LINES_FILE
from perceptio.errors import DataError
from perceptio.ops.foreign import parsing
from perceptio.ops.identity import add_blocks
from perceptio.ops.json_files import format_json


def hash_of_data(dataset: FolderDataset) -> str:
    """A SHA-256 of `dataset.json`, of `samples.jsonl`, and of every file that samples name.

    Where the folder and its roots lie does not count. Files count as `add_blocks` has it.

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


def hash_of_samples(dataset: FolderDataset, numbers: Iterable[int]) -> str:
    """A SHA-256 of `dataset.json`, and of the records and the files of some samples, as in `hash_of_data`.

    Raises:
        DataError: A file is missing.
    """
    sha = hashlib.sha256(_meaning(dataset))
    for number in numbers:
        record = dataset.records[number]
        sha.update(format_json(record.to_json()).encode())
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
        add_blocks(sha, file)
