"""Pack a data folder into tar shards, whose format `perceptio.data.folder.shards` describes."""

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs

from perceptio.data.folder.dataset import FolderDataset
from perceptio.data.folder.dataset_info import INFO_FILE, UNFINISHED_FILE
from perceptio.data.folder.files import split_root
from perceptio.data.folder.identity import hash_of_lines, kept_hash_of_packed
from perceptio.data.folder.places import CODES_FOLDER, HASH_FILE, address_of, system_of
from perceptio.data.folder.records import LINES_FILE, SampleRecord
from perceptio.data.folder.shards import INDEX_FILE, SHARDS_FOLDER, Shard, ShardIndex, key_of
from perceptio.errors import DataError
from perceptio.ops.files import LOCK, disk_errors, expanded, folder_lock
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import format_json

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SHARD_SIZE = 2**30
"""Size of a shard in bytes at which the next shard begins."""


@attrs.frozen(kw_only=True)
class Packed:
    """Statistics of a packed folder.

    Attributes:
        samples: Number of samples.
        files: Number of files.
        shards: Number of shards.
        size: Total size of the shards in bytes.
    """

    samples: int
    files: int
    shards: int
    size: int


def pack_folder(
    path: Path | str,
    out: Path | str,
    *,
    shard_size: int = SHARD_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Write the packed form of a data folder, which returns the same samples, bit for bit.

    Files are copied unchanged, each once, even if several samples name it. A packed folder has no roots, so a file in
    a root gets the name `roots/ROOT/PATH`. Until packing is complete, the folder is marked as unfinished and cannot
    be read.

    Args:
        path: The data folder.
        out: The folder to write, or an address such as `s3://bucket/corpus`.
        shard_size: Size of a shard in bytes at which the next shard begins; 1 or more.
        progress: Called with the number of samples packed so far and the total.

    Raises:
        DataError: `out` is not empty, another process on this machine writes to it, it cannot be written, a file of a
            sample cannot be read, or two files would have the same name.
    """
    dataset = FolderDataset(path)
    address = address_of(out)
    system, folder = system_of(address or str(expanded(out).absolute()))
    shown = address or str(expanded(out))
    failed = f"{shown} could not be written ({{reason}}): choose another place."
    with ExitStack() as held, parsing(DataError, failed):
        if system.exists(f"{folder}/{INFO_FILE}"):
            raise DataError(f"{shown} holds a data folder already: choose another place, or remove it.")
        there = set(system.ls(folder, detail=False)) if system.exists(folder) else set()
        if there - {f"{folder}/{LOCK}"} and not system.exists(f"{folder}/{UNFINISHED_FILE}"):
            raise DataError(f"{shown} is not empty: choose another place.")
        if address is None:
            with disk_errors(shown, DataError):
                held.enter_context(folder_lock(shown))
        system.makedirs(f"{folder}/{SHARDS_FOLDER}", exist_ok=True)
        info = format_json(attrs.evolve(dataset.info, roots={}).to_json(), indent=1).encode()
        if not dataset.info.roots:
            info = (dataset.root / INFO_FILE).read_bytes()
        system.pipe_file(f"{folder}/{UNFINISHED_FILE}", info)
        # Remove the leftovers of an interrupted packing, which would otherwise become part of this one.
        for left in (INDEX_FILE, LINES_FILE, CODES_FOLDER, SHARDS_FOLDER, HASH_FILE):
            if system.exists(f"{folder}/{left}"):
                system.rm(f"{folder}/{left}", recursive=True)
        system.makedirs(f"{folder}/{SHARDS_FOLDER}", exist_ok=True)
        index = _write_shards(dataset, system, f"{folder}/{SHARDS_FOLDER}", shard_size, progress)
        lines = _write_lines(dataset, system, f"{folder}/{LINES_FILE}")
        codes = dataset.root / CODES_FOLDER
        for file in sorted(codes.iterdir()) if codes.is_dir() else ():
            if file.is_file() and not file.name.startswith("."):
                system.makedirs(f"{folder}/{CODES_FOLDER}", exist_ok=True)
                system.put_file(str(file), f"{folder}/{CODES_FOLDER}/{file.name}")
        system.pipe_file(f"{folder}/{INDEX_FILE}", index.to_bytes())
        system.pipe_file(f"{folder}/{HASH_FILE}", kept_hash_of_packed(dataset, info, lines, index.state))
        system.pipe_file(f"{folder}/{INFO_FILE}", info)
        system.rm_file(f"{folder}/{UNFINISHED_FILE}")
    return Packed(
        samples=len(dataset),
        files=len(index.columns["keys"]),
        shards=len(index.shards),
        size=sum(shard.size for shard in index.shards),
    )


def packed_name(name: str, roots: tuple[str, ...]) -> str:
    """Return the name of a file in a packed folder."""
    root, inside = split_root(name, roots)
    return name if root is None else f"roots/{root}/{inside}"


def _write_shards(
    dataset: FolderDataset,
    system: "AbstractFileSystem",
    folder: str,
    shard_size: int,
    progress: Callable[[int, int], None] | None,
) -> ShardIndex:
    """Write every file that a sample names, in the order of the samples."""
    shards: list[Shard] = []
    rows: list[tuple[int, int, int, int, int]] = []
    taken: dict[int, str] = {}
    roots = tuple(dataset.info.roots)
    with ExitStack() as held:
        tar: tarfile.TarFile | None = None

        def close() -> None:
            nonlocal tar
            if tar is not None:
                tar.close()
                size = -(-tar.offset // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
                shards.append(Shard(name=f"{len(shards):05d}.tar", size=size))
                held.pop_all().close()
                tar = None

        for number, record in enumerate(dataset.records, start=1):
            for name in record.files:
                inside = packed_name(name, roots)
                key = key_of(inside)
                if key in taken:
                    if taken[key] != name:
                        raise DataError(
                            f"{name} and {taken[key]} cannot both be packed, as {inside}: rename one."
                        )
                    continue
                taken[key] = name
                if tar is None:
                    stream: IO[bytes] = held.enter_context(
                        system.open(f"{folder}/{len(shards):05d}.tar", "wb")
                    )
                    tar = held.enter_context(
                        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)
                    )
                start, size, checksum = _add(tar, inside, _content(dataset, name, record))
                rows.append((key, len(shards), start, size, checksum))
                if tar.offset >= shard_size:
                    close()
            if progress is not None:
                progress(number, len(dataset))
        close()
    return ShardIndex.of(shards, rows)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int, int]:
    """Add a file to a shard, and return the offset of its content, its size and its checksum."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    header = len(member.tobuf(tarfile.PAX_FORMAT, tar.encoding or "utf-8", tar.errors or "strict"))
    start = tar.offset + header
    tar.addfile(member, BytesIO(content))
    return start, len(content), zlib.crc32(content)


def _content(dataset: FolderDataset, name: str, record: SampleRecord) -> bytes:
    where = f"{dataset.name}/{LINES_FILE} line {record.line}: {dataset.files.where(name)}"
    with (
        parsing(
            DataError, f"{where} cannot be read ({{reason}}): `perceptio data check` lists all such files."
        ),
        dataset.files.opened(name) as file,
    ):
        return file.read()


def _write_lines(dataset: FolderDataset, system: "AbstractFileSystem", file: str) -> bytes:
    """Write the lines, with packed names if the folder has roots, and return their SHA-256."""
    if not dataset.info.roots:
        system.put_file(str(dataset.root / LINES_FILE), file)
        return hash_of_lines(dataset)
    sha = hashlib.sha256()
    with system.open(file, "wb") as lines:
        for line in _renamed(dataset):
            lines.write(line)
            sha.update(line)
    return sha.digest()


def _renamed(dataset: FolderDataset) -> Iterator[bytes]:
    roots = tuple(dataset.info.roots)

    def named(held: Any) -> Any:
        return packed_name(held, roots) if isinstance(held, str) else held

    for record in dataset.records:
        renamed = attrs.evolve(
            record,
            image=named(record.image),
            depth=named(record.depth),
            masks=named(record.masks),
            maps={name: named(file) for name, file in record.maps.items()},
        )
        yield format_json(renamed.to_json()).encode()
