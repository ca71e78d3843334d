"""Where the files that samples name lie: in the data folder itself, or in a root that `dataset.json` declares.

Those of a packed folder lie in shards: `perceptio.data.folder.shards`.
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
"""Files whose sizes and times are asked for at once, which on a network takes a fraction of one by one."""
_CHUNK, _STATE = 1_000, struct.Struct("<qqqQ")


def split_root(name: str, roots: Collection[str]) -> tuple[str | None, str]:
    """The root that a sample's path begins with, if any, and the path inside it or the folder."""
    root, colon, inside = name.partition(":")
    return (root, inside) if colon and root in roots else (None, name)


def why_no_file(name: Any, roots: Collection[str]) -> str | None:
    """Why a value cannot name a file of a sample; None where it can.

    Args:
        name: The value.
        roots: The names of the roots that are declared. Without any, a colon is part of a name.
    """
    if isinstance(name, str):
        root, colon, _ = name.partition(":")
        if roots and colon and root not in roots and re.fullmatch(ROOT_NAME, root):
            known = ", ".join(sorted(roots))
            return f"begins with the root {quoted(root)}, and dataset.json declares {known}"
        name = split_root(name, roots)[1]
    return why_not_inside(name)


class AnyFiles(ABC):
    """The files of a data folder, by the names that its samples give them.

    Attributes:
        roots: The names of its roots.
    """

    roots: Collection[str] = ()

    @abstractmethod
    def where(self, name: str) -> Path | str:
        """What messages call a file, whether or not it is there."""

    @abstractmethod
    def found(self, name: str) -> AnyFile:
        """A file, which is read or else refused where it is used.

        Raises:
            DataError: Its name leads out of where it is to lie, or it cannot be had.
        """

    @abstractmethod
    def state(self, names: Iterable[str], *, unchanged_since: float | None = None) -> str | None:
        """A text that is the same as long as none of the named files changes; no file is read.

        Args:
            names: The names, in an order that counts.
            unchanged_since: A time, in seconds of the epoch.

        Returns:
            None where a file is missing, or was changed at that time or later.
        """

    def opened(self, name: str) -> BinaryIO:
        """A file to read from, bytes as they are.

        Raises:
            DataError: As `found`.
            OSError: It cannot be read.
        """
        return opened(self.found(name))


class Files(AnyFiles):
    """Files that lie in a folder, or in its roots.

    Args:
        folder: The data folder.
        roots: Its roots by name; a relative one begins at the folder.
    """

    def __init__(self, folder: Path, roots: Mapping[str, str]) -> None:
        self.folder = folder
        self.roots: Mapping[str, Path] = {name: folder / expanded(place) for name, place in roots.items()}

    def where(self, name: str) -> Path:
        """The path of a file, links not followed."""
        root, inside = split_root(name, self.roots)
        return (self.folder if root is None else self.roots[root]) / inside

    def found(self, name: str) -> Path:
        """The path of a file that links do not lead out of the folder, or of its root.

        Raises:
            DataError: A link leads out, or in a circle.
        """
        root, inside = split_root(name, self.roots)
        return resolved_inside(self.folder if root is None else self.roots[root], inside, DataError)

    def state(self, names: Iterable[str], *, unchanged_since: float | None = None) -> str | None:
        """A SHA-256 of sizes, times and inodes.

        The time of a change of the inode counts, too: unlike that of the content, no program sets it back.
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
