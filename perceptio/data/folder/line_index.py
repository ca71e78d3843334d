"""An index of the lines of a data folder, cached on disk for folders with many lines.

The index of `samples.jsonl` is written beside it, or into the user's cache if the folder is not writable. It is valid
as long as the size, time and some blocks of that file, `dataset.json` and the rules for lines do not change. An
invalid or damaged index is made again. Each line is checked again whenever it is read.
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from perceptio import __version__
from perceptio.data.folder.dataset_info import DatasetInfo
from perceptio.data.folder.kept import INDEX_FILE, Arrays, Facts, keep, read_kept
from perceptio.interfaces import TaskConfig
from perceptio.ops.foreign import MeasuredFile
from perceptio.ops.json_files import Line

VERSION = 1
KEPT_FROM = 5_000
"""Minimum number of lines for which an index is cached; fewer are read in a tenth of a second."""
BLOCK, BLOCKS = 64 * 1024, 32
"""Size in bytes and number of blocks, evenly spaced over the file of lines, that are part of an index's key."""


@attrs.frozen(kw_only=True, eq=False)
class LineIndex:
    """For each line of a data folder, where it begins, the tasks of its turns, and what it names.

    Attributes:
        starts: Offset of each line in bytes.
        numbers: Its number, from 1, counting blank lines.
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
        """Return whether each line names one of `keys`, bool; for another key all are False."""
        if key not in self.keys:
            return np.zeros(len(self), dtype=bool)
        return self.named[:, self.keys.index(key)]


def indexed(
    lines: Path,
    info: DatasetInfo,
    rules: Mapping[str, TaskConfig],
    read: Callable[[], Iterable[tuple[Mapping[str, Any], Line]]],
) -> LineIndex:
    """Return the index of a file of lines: the cached one if it is valid, otherwise a new one.

    Args:
        lines: The file.
        info: The content of `dataset.json`.
        rules: The tasks with rules for turns, by name.
        read: Reads and checks all lines.
    """
    known_by = _known_by(lines, info, rules)
    if known_by is None:
        return _made(info, read())
    kept = read_kept(lines.parent, INDEX_FILE, known_by, _parsed)
    if kept is not None:
        return kept
    index = _made(info, read())
    if len(index) >= KEPT_FROM and known_by == _known_by(lines, info, rules):
        keep(lines.parent, INDEX_FILE, known_by, *_written(index))
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
    """Return the key of an index of these lines; None if they cannot be read."""
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


def _parsed(facts: Facts, arrays: Arrays) -> LineIndex | None:
    """Return a cached index, if it is complete."""
    table = [frozenset(names) for names in facts["tasks"]]
    index = LineIndex(
        starts=arrays["starts"],
        numbers=arrays["numbers"],
        tasks=tuple([table[number] for number in arrays["tasks"].tolist()]),
        keys=tuple(facts["keys"]),
        named=arrays["named"],
    )
    count = len(index.starts)
    whole = index.named.shape == (count, len(index.keys)) and len(index.numbers) == count
    return index if whole and len(index.tasks) == count else None


def _written(index: LineIndex) -> tuple[Facts, Arrays]:
    """Return the content from which `_parsed` makes an index."""
    table = {names: number for number, names in enumerate(dict.fromkeys(index.tasks))}
    arrays = {
        "starts": index.starts,
        "numbers": index.numbers,
        "tasks": np.array([table[names] for names in index.tasks], dtype=np.uint32),
        "named": index.named,
    }
    return {"keys": index.keys, "tasks": [sorted(names) for names in table]}, arrays
