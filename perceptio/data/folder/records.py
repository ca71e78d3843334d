"""The lines of a data folder as typed records; their rules are in `perceptio.data.folder.line_rules`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import attrs
import numpy as np

from perceptio.data.folder.dataset_info import DatasetInfo, parse_info
from perceptio.data.folder.line_index import indexed
from perceptio.data.folder.line_rules import as_points, line_problems
from perceptio.data.tasks import task_rules
from perceptio.errors import DataError, quoted
from perceptio.interfaces import RunLengths, TaskConfig, TurnRecord
from perceptio.ops.json_files import InvalidJSONError, Line, parse_json, read_line, read_lines
from perceptio.ops.run_lengths import parse_runs

LINES_FILE = "samples.jsonl"


@attrs.frozen(kw_only=True)
class Problem:
    """A problem and its location: a path relative to the folder, and the line of `samples.jsonl` that led to it."""

    file: str
    line: int | None = None
    message: str

    def __str__(self) -> str:
        if self.line is None:
            return f"{self.file}: {self.message}"
        where = f"line {self.line}" if self.file == LINES_FILE else f"{LINES_FILE} line {self.line}"
        return f"{self.file} ({where}): {self.message}"


@attrs.frozen(kw_only=True)
class SampleRecord:
    """A line of `samples.jsonl`; `line` counts from 1, and is 0 for a record that is not yet written.

    Without `image` it is a conversation about no image. If it is `ordered`, its turns form one conversation, in
    which each may refer to earlier ones; otherwise they are questions that may be asked in any order.
    """

    line: int = 0
    id: str
    image: str | None = None
    depth: str | None = None
    masks: str | tuple[RunLengths, ...] | None = None
    maps: Mapping[str, str] = attrs.field(factory=dict)
    turns: tuple[TurnRecord, ...] = ()
    ordered: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the line from which this record is read."""
        masks = [*map(_mask_line, self.masks)] if isinstance(self.masks, tuple) else self.masks
        own = {"image": self.image, "depth": self.depth, "masks": masks}
        written: dict[str, Any] = {"id": self.id}
        written |= {key: value for key, value in own.items() if value is not None}
        if self.maps:
            written["maps"] = dict(self.maps)
        if self.ordered:
            written["ordered"] = True
        return {**written, "turns": [_turn_line(turn) for turn in self.turns]}

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it names."""
        own = (self.image, self.depth, self.masks, *self.maps.values())
        return tuple(file for file in own if isinstance(file, str))

    @property
    def objects(self) -> tuple[int, ...]:
        """The numbers of the objects that its answers segment."""
        return tuple(sorted({one for turn in self.turns for one in turn.objects}))

    def target_file(self, name: str) -> str | None:
        """Return the file, within the folder, that holds a stream's target; None if the sample has none.

        Args:
            name: The `target` of the stream: `"image"`, `"depth"`, `"masks"` or `"objects"` (which the line itself
                may list), or the name of a map.
        """
        if name in ("masks", "objects"):
            return LINES_FILE if isinstance(self.masks, tuple) else self.masks
        own = {"image": self.image, "depth": self.depth}
        return own[name] if name in own else self.maps.get(name)

    def has_target(self, name: str) -> bool:
        """Return whether the sample has a stream's target, without reading a file."""
        return self.target_file(name) is not None


def _mask_line(mask: RunLengths) -> dict[str, Any]:
    counts = mask.counts if isinstance(mask.counts, str) else list(mask.counts)
    return {"id": mask.id, "size": list(mask.size), "counts": counts}


def _turn_line(turn: TurnRecord) -> dict[str, Any]:
    written: dict[str, Any] = {"task": turn.task, "question": turn.question, "answer": turn.answer}
    if turn.points:
        written["points"] = [list(point) for point in turn.points]
    if turn.objects:
        written["objects"] = list(turn.objects)
    return {"id": turn.id, **written} if turn.id else written


def runs_of_mask(mask: RunLengths) -> np.ndarray:
    """Return the runs of a record's mask, int64 [R]."""
    return parse_runs(mask.counts) if isinstance(mask.counts, str) else np.array(mask.counts, np.int64)


def parse_lines(root: Path) -> Iterator[SampleRecord | Problem]:
    """Yield each line of `samples.jsonl` as a record, or otherwise all problems in it.

    Raises:
        DataError: The file, or `dataset.json`, is missing or cannot be read.
    """
    for parsed in _parsed_lines(root, parse_info(root), task_rules()):
        yield parsed if isinstance(parsed, Problem) else _record(*parsed)


class Records(Sequence[SampleRecord]):
    """The records of a folder. All lines are checked immediately; a record is read again when it is accessed.

    This saves memory: a line of a large corpus takes a few kilobytes as a record, but only some bytes in the index.

    Args:
        root: The folder.
        info: The content of its `dataset.json`.
        name: Its name in messages; by default its path.

    Raises:
        DataError: A line does not follow the format; the message describes the first problem of the first such line.
    """

    def __init__(self, root: Path, info: DatasetInfo, name: Path | str = "") -> None:
        self._name = name or root
        self._path, self._info, self._rules = root / LINES_FILE, info, task_rules()
        self._index = indexed(self._path, info, self._rules, self._checked)
        self.tasks = self._index.tasks
        """The tasks of each record's turns."""

    def _checked(self) -> Iterator[tuple[dict[str, Any], Line]]:
        """Yield the values of all lines; raise at the first problem."""
        for parsed in _parsed_lines(self._path.parent, self._info, self._rules):
            if isinstance(parsed, Problem):
                raise DataError(
                    f"{self._name}/{parsed} `perceptio data check {quote(str(self._name))}` lists all problems."
                )
            yield parsed

    def with_target(self, name: str) -> np.ndarray:
        """Return the positions of the records that have a stream's `target`, int64 in ascending order."""
        return np.flatnonzero(self._index.having("masks" if name == "objects" else name))

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, place: int) -> SampleRecord:  # type: ignore[override]
        """Return the record at a position.

        Raises:
            DataError: The file has changed since it was checked.
        """
        start = int(self._index.starts[place])
        line = Line(int(self._index.numbers[place]), start, read_line(self._path, start))
        try:
            raw = parse_json(line.text)
        except InvalidJSONError:
            raw = None
        if next(line_problems(raw, self._info, self._rules), None):
            raise DataError(
                f"{self._name}/{LINES_FILE} has changed since it was opened: open the folder again."
            )
        return _record(raw, line)


def _parsed_lines(
    root: Path, info: DatasetInfo, rules: Mapping[str, TaskConfig]
) -> Iterator[tuple[dict[str, Any], Line] | Problem]:
    path = root / LINES_FILE
    if not path.is_file():
        raise DataError(f"{root} has no {LINES_FILE}: it lists the samples, one JSON object a line.")
    seen: dict[str, int] = {}
    for line in read_lines(path):
        try:
            raw = parse_json(line.text)
        except InvalidJSONError as error:
            message = f"it is not JSON ({error}); a line holds one whole object."
            yield Problem(file=LINES_FILE, line=line.number, message=message)
            continue
        problems = list(line_problems(raw, info, rules))
        if not problems and (first := seen.setdefault(raw["id"], line.number)) != line.number:
            problems = [f"id {quoted(raw['id'])} is that of line {first} too; ids must differ."]
        if problems:
            yield from (Problem(file=LINES_FILE, line=line.number, message=message) for message in problems)
        else:
            yield raw, line


def _record(raw: Mapping[str, Any], line: Line) -> SampleRecord:
    masks = raw.get("masks")
    if isinstance(masks, list):
        masks = tuple(
            RunLengths(id=one["id"], size=tuple(one["size"]), counts=_counts(one["counts"])) for one in masks
        )
    turns = tuple(
        TurnRecord(
            task=turn["task"],
            question=turn["question"],
            answer=turn["answer"],
            points=as_points(turn.get("points", ())),
            objects=tuple(turn.get("objects", ())),
            id=turn.get("id", ""),
        )
        for turn in raw["turns"]
    )
    return SampleRecord(
        line=line.number,
        id=raw["id"],
        image=raw.get("image"),
        depth=raw.get("depth"),
        masks=masks,
        maps=raw.get("maps", {}),
        turns=turns,
        ordered=raw.get("ordered", False),
    )


def _counts(counts: list[int] | str) -> tuple[int, ...] | str:
    return counts if isinstance(counts, str) else tuple(counts)
