"""The files that samples name: in the data folder itself, or in a root that `dataset.json` declares.

The files of a packed folder are in shards: `perceptio.data.folder.shards`.
"""

import hashlib
import os
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from perceptio.errors import DataError, quoted
from perceptio.ops.files import expanded
from perceptio.ops.held_files import AnyFile, opened
from perceptio.ops.paths import resolved_inside, why_not_inside

ROOT_NAME = r"[A-Za-z0-9_-]{1,80}"
ASKED_AT_ONCE = 16
"""Files whose sizes and times are requested in parallel, which is much faster on a network."""
_CHUNK, _STATE = 1_000, struct.Struct("<qqqQ")


def split_root(name: str, roots: Collection[str]) -> tuple[str | None, str]:
    """Split a sample's path into its root, if any, and the path inside the root or the folder."""
    root, colon, inside = name.partition(":")
    return (root, inside) if colon and root in roots else (None, name)


def why_no_file(name: Any, roots: Collection[str]) -> str | None:
    """Return why a value is not a valid name of a sample's file; None if it is.

    Args:
        name: The value.
        roots: The names of the declared roots. Without roots, a colon is an ordinary character.
    """
    if isinstance(name, str):
        root, colon, _ = name.partition(":")
        if roots and colon and root not in roots and re.fullmatch(ROOT_NAME, root):
            known = ", ".join(sorted(roots))
            return f"begins with the root {quoted(root)}, and dataset.json declares {known}"
        name = split_root(name, roots)[1]
    return why_not_inside(name)


class AnyFiles(ABC):
    """The files of a data folder, by the names that its samples use.

    Attributes:
        roots: The names of its roots.
    """

    roots: Collection[str] = ()

    @abstractmethod
    def where(self, name: str) -> Path | str:
        """Return the name of a file in messages, whether or not it exists."""

    @abstractmethod
    def found(self, name: str) -> AnyFile:
        """Return a file; errors in reading it occur only when it is used.

        Raises:
            DataError: Its name leads out of its folder, or the file is not available.
        """

    @abstractmethod
    def state(self, names: Iterable[str], *, unchanged_since: float | None = None) -> str | None:
        """Return a text that stays the same as long as none of the named files changes, without reading any.

        Args:
            names: The names; their order matters.
            unchanged_since: A time, in seconds since the epoch.

        Returns:
            None if a file is missing, or was changed at that time or later.
        """

    def opened(self, name: str) -> BinaryIO:
        """Open a file to read its bytes.

        Raises:
            DataError: See `found`.
            OSError: The file cannot be read.
        """
        return opened(self.found(name))


class Files(AnyFiles):
    """Files in a local folder, or in its roots.

    Args:
        folder: The data folder.
        roots: Its roots by name; a relative path starts at the folder.
    """

    def __init__(self, folder: Path, roots: Mapping[str, str]) -> None:
        self.folder = folder
        self.roots: Mapping[str, Path] = {name: folder / expanded(place) for name, place in roots.items()}

    def where(self, name: str) -> Path:
        """Return the path of a file, without following links."""
        root, inside = split_root(name, self.roots)
        return (self.folder if root is None else self.roots[root]) / inside

    def found(self, name: str) -> Path:
        """Return the path of a file, if links do not lead out of the folder or its root.

        Raises:
            DataError: A link leads out, or forms a cycle.
        """
        root, inside = split_root(name, self.roots)
        return resolved_inside(self.folder if root is None else self.roots[root], inside, DataError)

    def state(self, names: Iterable[str], *, unchanged_since: float | None = None) -> str | None:
        """Return a SHA-256 of sizes, times and inodes.

        It includes the inode's change time, which, unlike the modification time, programs cannot reset.
        """
        latest = float("inf") if unchanged_since is None else unchanged_since * 1e9
        folder, roots = str(self.folder), {name: str(place) for name, place in self.roots.items()}

        def states(some: list[str]) -> bytes | None:
            states = bytearray()
            for name in some:
                root, inside = split_root(name, roots)
                found = os.stat(f"{folder if root is None else roots[root]}/{inside}")
                if max(found.st_mtime_ns, found.st_ctime_ns) >= latest:
                    return None
                states += _STATE.pack(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
            return bytes(states)

        rest, sha = iter(names), hashlib.sha256()
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            try:
                for one in pool.map(states, iter(lambda: list(islice(rest, _CHUNK)), [])):
                    if one is None:
                        return None
                    sha.update(one)
            except (OSError, ValueError):
                return None
            finally:
                pool.shutdown(cancel_futures=True)
        return sha.hexdigest()
