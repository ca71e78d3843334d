"""Cached files of a data folder that can be recomputed: in the folder, or in the user's cache if it is not writable.

Each is a file of arrays with a key, and is used as long as the key matches. A damaged file counts as missing.
"""

import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from perceptio.errors import DataError
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.foreign import MeasuredFile

T = TypeVar("T")
Facts = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]

INDEX_FILE = ".samples.index.npz"
"""The index of the lines: `perceptio.data.folder.line_index`."""
HASH_FILES = ".{}.hash.npz"
"""Hashes of the files' content: `perceptio.data.folder.identity`."""
DATA = "data"
"""Name under which the hash of all data is cached."""
_KNOWN_BY, _ABOUT = "known_by", "about"

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the user's cache for recomputable files of data folders."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perceptio"


def read_kept(
    folder: Path, name: str, known_by: Facts, parse: Callable[[Facts, Arrays], T | None]
) -> T | None:
    """Read a cached file of a folder.

    Args:
        folder: The data folder.
        name: The name of the file in the folder.
        known_by: The key that must match.
        parse: Converts its facts and arrays; None or any exception means that they are invalid.

    Returns:
        The converted content; None if there is no valid file.
    """
    for place in _places(folder, name):
        if not place.is_file():
            continue
        try:
            with MeasuredFile(place) as file, np.load(file, allow_pickle=False) as held:
                facts = json.loads(held[_ABOUT].tobytes())
                found = parse(facts, held) if facts[_KNOWN_BY] == known_by else None
        except Exception as error:  # Whatever the problem is, the file is made again.
            logger.info("%s cannot be used (%s): it is made again.", place, error)
            continue
        if found is not None:
            return found
    return None


def keep(folder: Path, name: str, known_by: Facts, facts: Facts, arrays: Arrays) -> None:
    """Write what `read_kept` reads to the first writable place; without one, it is recomputed the next time."""
    content = kept_bytes(known_by, facts, arrays)
    for place in _places(folder, name):
        try:
            with disk_errors(place, DataError), new_file(place) as new:
                new.write_bytes(content)
            return
        except DataError as error:
            logger.info("%s", error)


def kept_bytes(known_by: Facts, facts: Facts, arrays: Arrays) -> bytes:
    """Return the content of a file that `read_kept` reads."""
    about = json.dumps({_KNOWN_BY: known_by, **facts}).encode()
    stream = io.BytesIO()
    np.savez(stream, **dict[str, Any](arrays, **{_ABOUT: np.frombuffer(about, dtype=np.uint8)}))
    return stream.getvalue()


def _places(folder: Path, name: str) -> tuple[Path, Path]:
    hidden = hashlib.sha256(os.fsencode(os.path.realpath(folder / name))).hexdigest()[:32]
    return folder / name, cache_folder() / "indexes" / f"{hidden}.npz"
