"""What is known of every line of a data folder without reading it, kept on disk for folders of many lines.

The index of `samples.jsonl` is written beside it, or in the user's cache where the folder cannot be written. It holds
for as long as size, time and some blocks of that file, `dataset.json` and the rules for lines are what they were. One
that does not hold, or is damaged, is made again. A line is checked again whenever it is read.
"""

import hashlib
import json
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from perceptio import __version__
from perceptio.data.folder.dataset_info import DatasetInfo
from perceptio.errors import DataError
from perceptio.interfaces import TaskConfig
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.foreign import MeasuredFile
from perceptio.ops.json_files import Line

INDEX_FILE = ".samples.index.npz"
VERSION = 1
KEPT_FROM = 5_000
"""Lines of a folder whose index is kept; fewer are read again in a tenth of a second."""
BLOCK, BLOCKS = 64 * 1024, 32
"""So many blocks of so many bytes, spread evenly over the file of lines, are part of what an index is known by."""

logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class LineIndex:
    """Of each line of a data folder where it begins, of which tasks its turns are, and what it names.

    Attributes:
        starts: The byte at which each line begins.
        numbers: Its number, from 1, blank lines included.
        tasks: The tasks of its turns.
        keys: `"image"`, `"depth"`, `"masks"` and the maps that the folder declares.
        named: Whether each line names each of them, [lines, keys].
    """

    starts: np.ndarray
    numbers: np.ndarray
    tasks: tuple[frozenset[str], ...]
    keys: tuple[str, ...]
    named: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def having(self, key: str) -> np.ndarray:
        """Whether each line names one of `keys`, bool; of another key none does."""
        if key not in self.keys:
            return np.zeros(len(self), dtype=bool)
        return self.named[:, self.keys.index(key)]


def indexed(
    lines: Path,
    info: DatasetInfo,
    rules: Mapping[str, TaskConfig],
    read: Callable[[], Iterable[tuple[Mapping[str, Any], Line]]],
) -> LineIndex:
    """The index of a file of lines: the one that is kept, or else a new one.

    Args:
        lines: The file.
        info: What `dataset.json` says.
        rules: The tasks with rules for turns, by name.
        read: Reads and checks all lines.
    """
    known_by = _known_by(lines, info, rules)
    if known_by is None:
        return _made(info, read())
    places = (lines.parent / INDEX_FILE, _cache_of(lines))
    for place in places:
        kept = _read(place, known_by)
        if kept is not None:
            return kept
    index = _made(info, read())
    if len(index) >= KEPT_FROM and known_by == _known_by(lines, info, rules):
        _keep(index, known_by, places)
    return index


def _made(info: DatasetInfo, read: Iterable[tuple[Mapping[str, Any], Line]]) -> LineIndex:
    starts, numbers = array("q"), array("q")
    keys = ("image", "depth", "masks", *sorted(info.maps))
    tasks: list[frozenset[str]] = []
    known: dict[tuple[str, ...], frozenset[str]] = {}
    named: list[tuple[bool, ...]] = []
    combinations: dict[tuple[bool, ...], tuple[bool, ...]] = {}
    for raw, line in read:
        starts.append(line.start)
        numbers.append(line.number)
        asked = tuple([turn["task"] for turn in raw["turns"]])
        tasks.append(known.get(asked) or known.setdefault(asked, frozenset(asked)))
        maps = raw.get("maps", ())
        own = tuple([key in raw or key in maps for key in keys])
        named.append(combinations.setdefault(own, own))
    return LineIndex(
        starts=np.array(starts, dtype=np.int64),
        numbers=np.array(numbers, dtype=np.int64),
        tasks=tuple(tasks),
        keys=keys,
        named=np.array(named, dtype=bool).reshape(len(named), len(keys)),
    )


def _known_by(lines: Path, info: DatasetInfo, rules: Mapping[str, TaskConfig]) -> dict[str, Any] | None:
    """What an index of these lines is known by; None where they cannot be read."""
    blocks = hashlib.sha256()
    try:
        with MeasuredFile(lines) as file:
            status = os.fstat(file.fileno())
            step = max(BLOCK, (status.st_size - BLOCK) // (BLOCKS - 1))
            for start in range(0, status.st_size, step):
                file.seek(start)
                blocks.update(file.read(BLOCK))
    except OSError:
        return None
    return {
        "version": VERSION,
        "release": __version__,
        "size": status.st_size,
        "time": status.st_mtime_ns,
        "blocks": blocks.hexdigest(),
        "info": {**info.to_json(), "roots": sorted(info.roots)},
        "rules": sorted(
            f"{name} {type(rule).__module__}.{type(rule).__qualname__}" for name, rule in rules.items()
        ),
    }


def cache_folder() -> Path:
    """The user's cache for what can be made again of data folders."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perceptio"


def _cache_of(lines: Path) -> Path:
    """Where the index of a folder is kept that cannot be written."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(lines))).hexdigest()[:32]
    return cache_folder() / "indexes" / f"{name}.npz"


def _read(place: Path, known_by: Mapping[str, Any]) -> LineIndex | None:
    """An index that is kept, if it is one of what it is known by, and whole."""
    if not place.is_file():
        return None
    try:
        with MeasuredFile(place) as file, np.load(file, allow_pickle=False) as held:
            about = json.loads(held["about"].tobytes())
            if about["known_by"] != known_by:
                return None
            table = [frozenset(names) for names in about["tasks"]]
            index = LineIndex(
                starts=held["starts"],
                numbers=held["numbers"],
                tasks=tuple([table[number] for number in held["tasks"].tolist()]),
                keys=tuple(about["keys"]),
                named=held["named"],
            )
        count = len(index.starts)
        whole = index.named.shape == (count, len(index.keys)) and len(index.numbers) == count
        return index if whole and len(index.tasks) == count else None
    except Exception as error:  # Whatever is wrong with it, it is made again.
        logger.info("%s is no index that can be used (%s): it is made again.", place, error)
        return None


def _keep(index: LineIndex, known_by: Mapping[str, Any], places: Iterable[Path]) -> None:
    """Write an index to the first place that takes it; without one, the next opening reads all lines again."""
    table = {names: number for number, names in enumerate(dict.fromkeys(index.tasks))}
    about = {"known_by": known_by, "keys": index.keys, "tasks": [sorted(names) for names in table]}
    for place in places:
        try:
            with disk_errors(place, DataError), new_file(place) as new:
                np.savez(
                    new,
                    starts=index.starts,
                    numbers=index.numbers,
                    tasks=np.array([table[names] for names in index.tasks], dtype=np.uint32),
                    named=index.named,
                    about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
                )
            return
        except DataError as error:
            logger.info("%s", error)
