"""A packed data folder: its files in plain tar shards with an index, at any address that fsspec reads.

    dataset.json, samples.jsonl     as in any data folder, but without roots
    codes/                          codes of streams, if the folder had some
    shards/00000.tar, …             unchanged images, depth, masks and maps, under the names that samples use
    shards.index.npz                for each file its shard, offset, size and checksum

A file is one read of its bytes in its shard, which are compared with its checksum. Truncated, replaced or damaged
files are therefore reported and never used as data.

Arrays of the index: `keys`, 64 bits of a hash of each name in ascending order; and in the same order `shards`,
`starts`, `sizes` and `checksums` (CRC-32). `about` is JSON with the name and size of every shard.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from perceptio.data.folder.files import AnyFiles
from perceptio.errors import DataError, quoted
from perceptio.ops.foreign import parsing, reason_of
from perceptio.ops.held_files import HeldFile

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SHARDS_FOLDER, INDEX_FILE = "shards", "shards.index.npz"
VERSION = 1
_COLUMNS = {
    "keys": np.uint64,
    "shards": np.uint32,
    "starts": np.int64,
    "sizes": np.int64,
    "checksums": np.uint32,
}


def key_of(name: str) -> int:
    """Return 64 bits of a hash of a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


@attrs.frozen(kw_only=True)
class Shard:
    """A shard: its name in `shards/`, and its size in bytes."""

    name: str
    size: int


@attrs.frozen(kw_only=True, eq=False)
class ShardIndex:
    """The location of each file; see the module's docstring.

    Attributes:
        shards: The shards.
        columns: The arrays, by name.
    """

    shards: tuple[Shard, ...]
    columns: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, shards: Sequence[Shard], rows: Sequence[tuple[int, int, int, int, int]]) -> "ShardIndex":
        """Return the index of files given as rows of the columns, in any order, with distinct keys."""
        ordered = np.array(sorted(rows), dtype=object).reshape(len(rows), len(_COLUMNS))
        columns = {name: ordered[:, n].astype(kind) for n, (name, kind) in enumerate(_COLUMNS.items())}
        return cls(shards=tuple(shards), columns=columns)

    def to_bytes(self) -> bytes:
        """Return the content of the file that `read` reads."""
        about = {"version": VERSION, "shards": [attrs.asdict(shard) for shard in self.shards]}
        stream = io.BytesIO()
        arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}
        np.savez(stream, **arrays, **dict[str, Any](self.columns))
        return stream.getvalue()

    @classmethod
    def read(cls, file: HeldFile) -> "ShardIndex":
        """Read the index of a packed folder.

        Raises:
            DataError: It is damaged, or not an index.
        """
        again = "copy it again from where it was packed, or pack again"
        with parsing(DataError, f"{file} cannot be read ({{reason}}): {again}."):
            with np.load(io.BytesIO(file.content), allow_pickle=False) as held:
                about = json.loads(held["about"].tobytes())
                columns = {name: held[name] for name in _COLUMNS}
            shards = tuple(Shard(name=str(one["name"]), size=int(one["size"])) for one in about["shards"])
            version = about["version"]
        if version != VERSION:
            raise DataError(
                f"{file} has version {quoted(version)}, and this release reads {VERSION}: {again}."
            )
        count = len(columns["keys"])
        if any(
            columns[name].shape != (count,) or columns[name].dtype != kind for name, kind in _COLUMNS.items()
        ):
            raise DataError(f"{file} is no index of shards: {again}.")
        return cls(shards=shards, columns=columns)

    @property
    def state(self) -> str:
        """SHA-256 of the whole index, and therefore of the shards' content, as it includes each file's checksum."""
        sha = hashlib.sha256(json.dumps([attrs.asdict(shard) for shard in self.shards]).encode())
        for column in _COLUMNS:
            sha.update(self.columns[column].tobytes())
        return sha.hexdigest()

    def row(self, name: str) -> dict[str, int] | None:
        """Return the columns of a file; None if no shard holds a file of that name."""
        key = key_of(name)
        at = int(np.searchsorted(self.columns["keys"], np.uint64(key)))
        if at == len(self.columns["keys"]) or int(self.columns["keys"][at]) != key:
            return None
        return {column: int(values[at]) for column, values in self.columns.items()}


class FilesInShards(AnyFiles):
    """The files of a packed data folder. The sizes of its shards are immediately compared with the index.

    Args:
        system: The file system of the folder.
        folder: Its path there.
        address: The name of the folder in messages.
        index: The locations of its files.

    Raises:
        DataError: A shard is missing, or has a different size than in the index.
    """

    def __init__(self, system: "AbstractFileSystem", folder: str, address: str, index: ShardIndex) -> None:
        self._system, self._folder, self._address, self._index = system, folder, address, index
        shown = f"{address}/{SHARDS_FOLDER}"
        with parsing(DataError, f"{shown} cannot be read ({{reason}}): check the address."):
            sizes = _sizes(system, f"{folder}/{SHARDS_FOLDER}", [shard.name for shard in index.shards])
        for shard in index.shards:
            if sizes[shard.name] is None:
                raise DataError(f"{shown}/{shard.name} is missing: copy it from where the folder was packed.")
            if sizes[shard.name] != shard.size:
                raise DataError(
                    f"{shown}/{shard.name} has {sizes[shard.name]:,} bytes, and {INDEX_FILE} speaks of "
                    f"{shard.size:,}: it is cut short or of another packing; copy both again."
                )

    def where(self, name: str) -> str:
        """Return the address of the folder, followed by the name."""
        return f"{self._address}/{name}"

    def found(self, name: str) -> HeldFile:
        """Return the content of a file, in one read.

        Raises:
            DataError: No shard holds it, the shard cannot be read, or has other content there.
        """
        row = self._index.row(name)
        if row is None:
            raise DataError(f"{self.where(name)} is in no shard: name a file that was packed, or pack again.")
        shard, start = self._index.shards[row["shards"]].name, row["starts"]
        try:
            content = self._system.cat_file(
                f"{self._folder}/{SHARDS_FOLDER}/{shard}", start=start, end=start + row["sizes"]
            )
        except Exception as error:
            raise DataError(
                f"{self.where(name)} cannot be read from {SHARDS_FOLDER}/{shard} ({reason_of(error)}): check the "
                "address."
            ) from error
        if len(content) > row["sizes"]:
            raise DataError(
                f"{self.where(name)} cannot be read from {SHARDS_FOLDER}/{shard}: its server gives {len(content):,} "
                f"bytes of {row['sizes']:,} that are asked for: put the folder on one that serves parts of files."
            )
        if len(content) != row["sizes"] or zlib.crc32(content) != row["checksums"]:
            raise DataError(
                f"{self.where(name)} is not what was packed: {SHARDS_FOLDER}/{shard} is damaged or of another "
                f"packing than {INDEX_FILE}; copy both again."
            )
        return HeldFile(self.where(name), content)

    def state(self, names: Iterable[str], *, unchanged_since: float | None = None) -> str:
        """Return the state of the index for any names, because files with other content have another index."""
        return self._index.state


def _sizes(system: "AbstractFileSystem", folder: str, names: Sequence[str]) -> dict[str, int | None]:
    """Return the sizes of files in bytes; None for a missing one. A plain server may list no sizes, or nothing."""
    with suppress(Exception):  # Problems with a folder that cannot be listed are reported for its files.
        listed = {entry["name"].rsplit("/", 1)[-1]: entry["size"] for entry in system.ls(folder, detail=True)}
        if all(listed.get(name, 0) is not None for name in names):
            return {name: listed.get(name) for name in names}
    sizes: dict[str, int | None] = {}
    for name in names:
        try:
            sizes[name] = system.size(f"{folder}/{name}")
        except FileNotFoundError:
            sizes[name] = None
    return sizes
