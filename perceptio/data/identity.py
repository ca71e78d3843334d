"""What tells data folders apart: what they hold, wherever they lie."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from perceptio.data.folder import FolderDataset
from perceptio.data.records import INFO_FILE, LINES_FILE
from perceptio.errors import DataError
from perceptio.ops.foreign import parsing


def hash_of_data(dataset: FolderDataset) -> str:
    """A SHA-256 of `dataset.json`, of `samples.jsonl`, and of the size of every file that samples name.

    Pictures are not read: a picture that is exchanged for another of exactly as many bytes is not noticed.

    Raises:
        DataError: A file is missing.
    """
    sha = hashlib.sha256()
    for name in (INFO_FILE, LINES_FILE):
        with (dataset.root / name).open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    for record in dataset.records:
        masks = record.masks if isinstance(record.masks, str) else None
        sha.update(" ".join(_sizes(dataset.root, record.image, record.depth, masks)).encode())
    return sha.hexdigest()


def hash_of_depth(dataset: FolderDataset) -> str:
    """A SHA-256 of `dataset.json`, and of the ids of the samples with depth and their files' names and sizes.

    Raises:
        DataError: A file is missing.
    """
    sha = hashlib.sha256((dataset.root / INFO_FILE).read_bytes())
    for record in dataset.records:
        if record.depth is not None:
            (size,) = _sizes(dataset.root, record.depth)
            sha.update(f"{record.id}\n{record.depth}\n{size}\n".encode())
    return sha.hexdigest()


def _sizes(root: Path, *names: str | None) -> Iterator[str]:
    for name in names:
        if name is not None:
            with parsing(DataError, f"{root / name} cannot be read ({{reason}})."):
                yield str((root / name).stat().st_size)
