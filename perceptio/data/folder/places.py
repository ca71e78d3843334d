"""Where a data folder lies: on a disk, or packed, on any address that fsspec reads, such as `s3://bucket/corpus`.

Of a folder elsewhere the small files (`dataset.json`, `samples.jsonl`, the index of its shards, codes) are copied
once to the user's cache, and again when they have changed; pictures and maps are read out of the shards as they are
needed. Whether a file has changed is known by what its server says of it beside its size, such as an ETag or a date;
where that is nothing, it is copied at every opening.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from perceptio.data.folder.dataset_info import INFO_FILE, UNFINISHED_FILE, DatasetInfo, parse_info
from perceptio.data.folder.files import AnyFiles, Files
from perceptio.data.folder.kept import DATA, HASH_FILES, cache_folder
from perceptio.data.folder.records import LINES_FILE
from perceptio.data.folder.shards import INDEX_FILE, SHARDS_FOLDER, FilesInShards, ShardIndex
from perceptio.errors import DataError
from perceptio.ops.files import disk_errors, expanded, new_file
from perceptio.ops.foreign import parsing, reason_of
from perceptio.ops.held_files import HeldFile
from perceptio.ops.json_files import format_json

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CODES_FOLDER = "codes"
HASH_FILE = HASH_FILES.format(DATA)
HTTP = ("http", "https")
"""Schemes whose package the extra `http` installs."""
_SUMS = {"etag", "content-md5", "digest", "md5", "md5hash", "crc32c", "sha", "sha256", "oid", "blob_id"}
_VERSIONS = {"generation", "versionid", "version_id"}
_DATES = {"last-modified", "last_modified", "lastmodified", "modified", "mtime", "updated", "created"}
TELLING = _SUMS | _VERSIONS | _DATES
"""Names that fsspec's file systems use for facts that change with a file's content. A missing name costs a copy at
every opening; a superfluous one could hide a change."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?=[^/])")


def address_of(path: Path | str) -> str | None:
    """Return the address that a path stands for, such as `s3://bucket/corpus`; None if it is a local path.

    It also accepts a `Path`, which has lost one of the slashes.
    """
    found = _SCHEME.match(str(path))
    if found is None or Path(path).exists():
        return None
    from fsspec.registry import known_implementations

    known = found[1] in known_implementations and found[1] not in ("file", "local")
    return f"{found[1]}://{str(path)[found.end() :].rstrip('/')}" if known else None


def system_of(address: str) -> tuple["AbstractFileSystem", str]:
    """Return the file system of an address or local path, and the path within it.

    Raises:
        DataError: Its package is not installed, or it cannot be reached.
    """
    from fsspec.core import url_to_fs

    with parsing(DataError, f"{address} cannot be reached ({{reason}}): check the address."):
        try:
            system, folder = url_to_fs(address)
        except ImportError as missing:
            how = "pip install 'perceptio[http]'" if address.startswith(HTTP) else "install what that names"
            raise DataError(
                f"{address} needs a package that is not installed ({reason_of(missing)}): {how}."
            ) from missing
        return system, folder.rstrip("/")


@attrs.frozen(kw_only=True)
class Place:
    """An opened data folder.

    Attributes:
        name: Its name in messages: its path or its address.
        root: The local folder that holds its small files.
        info: The content of its `dataset.json`.
        files: The files that its samples name.
    """

    name: Path | str
    root: Path
    info: DatasetInfo
    files: AnyFiles

    @property
    def packed(self) -> bool:
        """Whether its files are in shards."""
        return isinstance(self.files, FilesInShards)


def open_place(path: Path | str) -> Place:
    """Open a data folder: a path, or the address of a packed one.

    Raises:
        DataError: It does not exist, does not follow the format, or is incomplete.
    """
    address = address_of(path)
    if address is None:
        root = expanded(path)
        info = parse_info(root)
        if not (root / INDEX_FILE).is_file():
            if (root / SHARDS_FOLDER).is_dir() and any((root / SHARDS_FOLDER).glob("*.tar")):
                raise _without_index(root)
            return Place(name=root, root=root, info=info, files=Files(root, info.roots))
        system, folder = system_of(str(root.absolute()))
        index = ShardIndex.read(HeldFile(str(root / INDEX_FILE), (root / INDEX_FILE).read_bytes()))
        return Place(name=root, root=root, info=info, files=FilesInShards(system, folder, str(root), index))
    system, folder = system_of(address)
    root = _small_files(system, folder, address)
    info = parse_info(root)
    index = ShardIndex.read(HeldFile(f"{address}/{INDEX_FILE}", (root / INDEX_FILE).read_bytes()))
    return Place(name=address, root=root, info=info, files=FilesInShards(system, folder, address, index))


def check_unpacked(path: Path | str, need: str) -> None:
    """Refuse a packed folder where separate local files are needed.

    Args:
        path: A data folder, or any other folder.
        need: What needs the files, with a verb, such as "a teacher reads".

    Raises:
        DataError: It is packed, or an address.
    """
    address = address_of(path)
    if address is not None or (expanded(path) / INDEX_FILE).is_file():
        raise DataError(
            f"{address or path} is packed in shards, and {need} files by themselves on a disk: give the folder that "
            "it was packed from, and pack that again."
        )


def is_there(path: Path | str) -> bool:
    """Return whether something exists at a path or an address."""
    address = address_of(path)
    if address is None:
        return expanded(path).exists()
    system, folder = system_of(address)
    with parsing(DataError, f"{address} cannot be reached ({{reason}}): check the address."):
        return bool(system.exists(folder))


def _without_index(name: Path | str) -> DataError:
    return DataError(
        f"{name} has shards and no {INDEX_FILE}: copy that from where it was packed, or pack again."
    )


def _small_files(system: "AbstractFileSystem", folder: str, address: str) -> Path:
    """Return a local folder with up-to-date copies of the small files.

    Raises:
        DataError: It is not a packed data folder, or a file cannot be copied.
    """
    root = cache_folder() / "corpora" / hashlib.sha256(address.encode()).hexdigest()[:32]
    with parsing(DataError, f"{address} cannot be read ({{reason}}): check the address."):
        system.invalidate_cache()  # An earlier listing in this process may be outdated.
        there = system.exists
        if not there(f"{folder}/{INFO_FILE}"):
            if there(f"{folder}/{UNFINISHED_FILE}"):
                raise DataError(f"{address} is not finished, as its packing was stopped: pack it again.")
            raise DataError(f"{address} has no {INFO_FILE}, so it is no data folder: check the address.")
        if not there(f"{folder}/{INDEX_FILE}"):
            if there(f"{folder}/{SHARDS_FOLDER}"):
                raise _without_index(address)
            raise DataError(
                f"{address} is not packed, and only packed folders are read from elsewhere than a disk: `perceptio "
                "data pack` packs one."
            )
        names = [INFO_FILE, LINES_FILE, INDEX_FILE, *([HASH_FILE] if there(f"{folder}/{HASH_FILE}") else [])]
        if there(f"{folder}/{CODES_FOLDER}"):
            names += [
                f"{CODES_FOLDER}/{found.rsplit('/', 1)[-1]}"
                for found in system.find(f"{folder}/{CODES_FOLDER}")
            ]
        for name in names:
            _copy(system, f"{folder}/{name}", root / name)
    return root


def _copy(system: "AbstractFileSystem", there: str, here: Path) -> None:
    """Copy a file, unless there is an up-to-date copy."""
    version, noted = _version(system.info(there)), here.with_name(f".{here.name}.version")
    if here.is_file() and noted.is_file() and noted.read_text(encoding="utf-8") == version:
        return
    with disk_errors(here, DataError):
        noted.unlink(missing_ok=True)
        with new_file(here) as new:
            system.get_file(there, str(new))
        if version is not None:
            with new_file(noted) as new:
                new.write_text(version, encoding="utf-8")


def _version(info: Mapping[str, Any]) -> str | None:
    """Return what distinguishes versions of a file; None if its server reports nothing but the size.

    On most servers dates have a resolution of seconds. If only the date is available, a file may change twice within
    a second; if it is copied in between, the second change is missed unless it changes the size.
    """
    telling = sorted((key, str(value)) for key, value in info.items() if key.lower() in TELLING and value)
    return format_json([info.get("size"), *telling]) if telling else None
