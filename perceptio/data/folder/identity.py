"""The identity of a data folder: a hash of its content, wherever it is.

The hash of a folder with many files is cached with evidence that none of them has changed, so that runs need not read
all files at every start. The evidence is the files' sizes, times and inodes, or the index of a packed folder.
"""

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator

import attrs
import numpy as np

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.dataset_info import INFO_FILE
from perceptio.data.folder.files import AnyFiles
from perceptio.data.folder.kept import DATA, HASH_FILES, Arrays, Facts, keep, kept_bytes, read_kept
from perceptio.data.folder.records import LINES_FILE
from perceptio.errors import DataError
from perceptio.ops.foreign import parsing
from perceptio.ops.identity import add_blocks
from perceptio.ops.json_files import format_json

KEPT_FROM = 1_000
"""Minimum number of files for which hashes are cached; fewer are read in less than a second."""
SETTLED_S = 2.0
"""A file that was changed within this many seconds before it was read could change again without a new time stamp:
FAT has this resolution. Git's index uses the same rule."""
VERSION = 1

Part = bytes | str
"""An input of a hash: bytes, or the name of a file whose size and blocks are hashed."""


def hash_of_data(dataset: FolderDataset) -> str:
    """Return a SHA-256 of `dataset.json`, of `samples.jsonl`, and of every file that samples name.

    The location of the folder and its roots does not count. Files are hashed as by `add_blocks`.

    Raises:
        DataError: A file is missing.
    """
    meaning, lines = hashlib.sha256(_meaning(dataset)).digest(), hash_of_lines(dataset)
    return _hash(dataset, DATA, _known_by(meaning, lines), _parts_of_data(dataset, meaning, lines))


def hash_of_samples(dataset: FolderDataset, numbers: Iterable[int]) -> str:
    """Return a SHA-256 of `dataset.json`, and of the records and files of some samples, as in `hash_of_data`.

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
    """Return a SHA-256 of `dataset.json`, and of the ids and files of samples with a target, as in `hash_of_data`.

    File names do not count: a packed folder has the same targets as the folder that it was packed from.

    Args:
        dataset: The folder.
        name: The target of a stream that is written per image: `"image"`, `"depth"`, or the name of a map.

    Raises:
        DataError: A file is missing.
    """
    meaning = _meaning(dataset)

    def parts() -> Iterator[Part]:
        yield meaning
        for number in dataset.with_target(name).tolist():
            record = dataset.records[number]
            file = record.target_file(name)
            assert file is not None
            yield f"{record.id}\n".encode()
            yield repr(record.masks).encode() if file == LINES_FILE else file

    known_by = _known_by(hashlib.sha256(meaning).digest(), hash_of_lines(dataset))
    return _hash(dataset, f"targets-{name}", known_by, parts())


def hash_of_lines(dataset: FolderDataset) -> bytes:
    """Return the SHA-256 of `samples.jsonl`."""
    with (dataset.root / LINES_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def kept_hash_of_packed(dataset: FolderDataset, info: bytes, lines: bytes, state: str) -> bytes:
    """Return the content of the file that caches `hash_of_data` in a packed folder, from the original folder.

    Args:
        dataset: The original folder.
        info: The packed folder's `dataset.json`.
        lines: SHA-256 of its `samples.jsonl`.
        state: The state of its files, from `AnyFiles.state`.

    Raises:
        DataError: A file is missing.
    """
    meaning = hashlib.sha256(info).digest()
    sha256, _ = _digest(dataset.files, _parts_of_data(dataset, meaning, lines))
    return kept_bytes(_known_by(meaning, lines), _facts(sha256, state), _named(()))


def _parts_of_data(dataset: FolderDataset, meaning: bytes, lines: bytes) -> Iterator[Part]:
    yield meaning + lines
    for record in dataset.records:
        yield from record.files


def _hash(dataset: FolderDataset, what: str, known_by: Facts, parts: Iterable[Part]) -> str:
    """Return the hash of these parts: from the cache if it is valid, otherwise computed."""
    file, files = HASH_FILES.format(what), dataset.files

    def parse(facts: Facts, arrays: Arrays) -> str | None:
        names = arrays["names"].tobytes().decode()
        return facts["sha256"] if files.state(names.split("\n") if names else ()) == facts["state"] else None

    if (kept := read_kept(dataset.root, file, known_by, parse)) is not None:
        return kept
    began = time.time()
    sha256, names = _digest(files, parts)
    if len(names) >= KEPT_FROM:
        # Requested now, the state also detects a file that was changed while others were read.
        state = files.state(names, unchanged_since=began - SETTLED_S)
        if state is not None:
            keep(dataset.root, file, known_by, _facts(sha256, state), _named(names))
    return sha256


def _digest(files: AnyFiles, parts: Iterable[Part]) -> tuple[str, Collection[str]]:
    """Return the SHA-256 of these parts, and the distinct names of the files among them, in order."""
    sha, names = hashlib.sha256(), dict[str, None]()
    for part in parts:
        if isinstance(part, bytes):
            sha.update(part)
        else:
            _add_file(sha, files, part)
            names[part] = None
    return sha.hexdigest(), names


def _known_by(meaning: bytes, lines: bytes) -> Facts:
    return {"version": VERSION, "meaning": meaning.hex(), "lines": lines.hex()}


def _facts(sha256: str, state: str) -> Facts:
    return {"sha256": sha256, "state": state}


def _named(names: Iterable[str]) -> Arrays:
    return {"names": np.frombuffer("\n".join(names).encode(), dtype=np.uint8)}


def _meaning(dataset: FolderDataset) -> bytes:
    """Return `dataset.json` without the locations of its roots."""
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
