"""The lines of a data folder as typed records, and every rule that they can break before files are read.

The format is documented in `perceptio.data.folder`. Each rule is written once, as a message that is yielded: a
dataset raises the first, `perceptio.data.folder.check.check_folder` reports all, and writers ask before they write.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import attrs
import numpy as np

from perceptio.data.folder.dataset_info import INFO_FILE, DatasetInfo, parse_info
from perceptio.data.folder.files import why_no_file
from perceptio.data.folder.json_rules import is_number, is_whole, key_problems
from perceptio.data.tasks import task_rules
from perceptio.errors import DataError, quoted
from perceptio.interfaces import LETTERS, RunLengths, TaskConfig, Turn, TurnRecord
from perceptio.ops.image_files import MAX_PIXELS
from perceptio.ops.json_files import InvalidJSONError, Line, parse_json, read_line, read_lines
from perceptio.ops.run_lengths import parse_runs

LINES_FILE = "samples.jsonl"
_PLAIN_TURN = {"task", "question", "answer"}


@attrs.frozen(kw_only=True)
class Problem:
    """What is wrong where: a path relative to the folder, and the line of `samples.jsonl` it was found from."""

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
    """A line of `samples.jsonl`; `line` counts from 1, and is 0 of a record that is to be written.

    Without `image` it is a conversation about no picture. Where it is `ordered`, its turns are one conversation, of
    which each may speak of those before it; otherwise they are questions that may be asked in any order.
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
        """The line that is read as this record."""
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
        """The file, within the folder, that holds what a stream is learned from; None where the sample has none.

        Args:
            name: The `target` of the stream: `"image"`, `"depth"`, `"masks"` or `"objects"` (which the line itself
                may list), or the name of a map.
        """
        if name in ("masks", "objects"):
            return LINES_FILE if isinstance(self.masks, tuple) else self.masks
        own = {"image": self.image, "depth": self.depth}
        return own[name] if name in own else self.maps.get(name)

    def has_target(self, name: str) -> bool:
        """Whether the sample has what a stream is learned from, by the name in its spec; no file is read."""
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
    """The runs of a mask of a record, int64 [R]."""
    return parse_runs(mask.counts) if isinstance(mask.counts, str) else np.array(mask.counts, np.int64)


def parse_lines(root: Path) -> Iterator[SampleRecord | Problem]:
    """Each line of `samples.jsonl` as a record, or else everything that is wrong in it.

    Raises:
        DataError: The file, or `dataset.json`, is missing or cannot be read.
    """
    for parsed in _parsed_lines(root, parse_info(root), task_rules()):
        yield parsed if isinstance(parsed, Problem) else _record(*parsed)


class Records(Sequence[SampleRecord]):
    """The records of a folder. All lines are checked at once; a record is read again when it is asked for.

    A line of a large corpus has a few kilobytes as a record, and eight bytes as the place where it begins.

    Args:
        root: The folder.
        info: What its `dataset.json` says.

    Raises:
        DataError: A line is not of the format; of the first, the first problem.
    """

    def __init__(self, root: Path, info: DatasetInfo) -> None:
        self._path, self._info, self._rules = root / LINES_FILE, info, task_rules()
        starts, numbers = array("q"), array("q")
        tasks: list[frozenset[str]] = []
        known: dict[tuple[str, ...], frozenset[str]] = {}
        for parsed in _parsed_lines(root, info, self._rules):
            if isinstance(parsed, Problem):
                raise DataError(
                    f"{root}/{parsed} `perceptio data check {quote(str(root))}` lists all problems."
                )
            raw, line = parsed
            starts.append(line.start)
            numbers.append(line.number)
            named = tuple([turn["task"] for turn in raw["turns"]])
            tasks.append(known.get(named) or known.setdefault(named, frozenset(named)))
        self._starts, self._numbers = starts, numbers
        self.tasks = tuple(tasks)
        """The tasks of each record's turns."""

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, place: int) -> SampleRecord:  # type: ignore[override]
        """The record at a place.

        Raises:
            DataError: The file has changed since it was checked.
        """
        line = Line(self._numbers[place], self._starts[place], read_line(self._path, self._starts[place]))
        try:
            raw = parse_json(line.text)
        except InvalidJSONError:
            raw = None
        if next(line_problems(raw, self._info, self._rules), None):
            raise DataError(f"{self._path} has changed since it was opened: open the folder again.")
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
            points=_points(turn.get("points", ())),
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


def line_problems(raw: Any, info: DatasetInfo, rules: Mapping[str, TaskConfig]) -> Iterator[str]:
    """Everything that is wrong in the value of a line.

    Args:
        raw: The value.
        info: What `dataset.json` says.
        rules: The tasks with rules of their own, by name (`perceptio.data.tasks.task_rules`).
    """
    if not isinstance(raw, dict):
        yield "it is not a JSON object."
        return
    yield from key_problems(raw, {"id", "turns"}, {"image", "depth", "masks", "maps", "ordered"})
    if not isinstance(raw.get("id", ""), str):
        yield f"id {quoted(raw['id'])} is not text."
    for key in ("image", "depth"):
        if key in raw and (why := why_no_file(raw[key], info.roots)):
            yield f"{key} {quoted(raw[key])} {why}."
    masks = raw.get("masks", "")
    if isinstance(masks, list):
        yield from _run_length_problems(masks)
    elif "masks" in raw and (why := why_no_file(masks, info.roots)):
        yield f"masks {quoted(masks)} {why}."
    yield from _map_problems(raw.get("maps", {}), info)
    if type(raw.get("ordered", False)) is not bool:
        yield f"ordered {quoted(raw['ordered'])} is neither true nor false."
    turns = raw.get("turns", [])
    if not isinstance(turns, list):
        yield "turns is not a list."
        return
    for number, turn in enumerate(turns, start=1):
        if not _is_plain_turn(turn, rules):
            found = _turn_problems(turn, "masks" in raw, rules)
            yield from (f"turn {number}: {message}" for message in found)
    if "image" not in raw:
        yield from _without_image_problems(raw, turns)


def _without_image_problems(raw: Mapping[str, Any], turns: Sequence[Any]) -> Iterator[str]:
    if not turns:
        yield '"image" is missing, and there is no turn: a sample has a picture, a conversation, or both.'
    yield from (
        f'{key} without "image": what is known of a picture needs the picture.'
        for key in ("depth", "masks", "maps")
        if key in raw
    )
    for number, turn in enumerate(turns, start=1):
        if isinstance(turn, dict) and turn.get("points"):
            yield f'turn {number}: points without "image": they mark places of a picture.'


def _map_problems(named: Any, info: DatasetInfo) -> Iterator[str]:
    if not isinstance(named, dict):
        yield f"maps {quoted(named)} is not an object of names, each with a path."
        return
    for name, path in named.items():
        if name not in info.maps:
            known = ", ".join(sorted(info.maps)) or "none"
            yield f"map {quoted(name)} is not declared in {INFO_FILE}, which declares {known}."
        if why := why_no_file(path, info.roots):
            yield f"map {quoted(name)} {quoted(path)} {why}."


def _is_plain_turn(turn: Any, rules: Mapping[str, TaskConfig]) -> bool:
    """Whether a turn is question and answer alone, to which no further rule applies: most are, in large corpora."""
    return (
        type(turn) is dict
        and turn.keys() == _PLAIN_TURN
        and type(turn["question"]) is type(turn["answer"]) is type(turn["task"]) is str
        and turn["task"] not in rules
    )


def _turn_problems(turn: Any, has_masks: bool, rules: Mapping[str, TaskConfig]) -> Iterator[str]:
    if not isinstance(turn, dict):
        yield "it is not an object."
        return
    yield from key_problems(turn, _PLAIN_TURN, {"id", "points", "objects"})
    yield from (
        f"{key} {quoted(turn[key])} is not text."
        for key in sorted(_PLAIN_TURN | {"id"})
        if not isinstance(turn.get(key, ""), str)
    )
    points = turn.get("points", [])
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        yield f"points {quoted(points)} are not pairs [x, y] of numbers from 0 to 1."
        return
    if len(points) > len(LETTERS):
        yield f"it has {len(points)} points, and there are {len(LETTERS)} letters."
    words = {key: turn[key] for key in _PLAIN_TURN if isinstance(turn.get(key), str)}
    if len(words) == len(_PLAIN_TURN) and words["task"] in rules:
        yield from rules[words["task"]].problems(Turn(**words, points=_points(points)))
    objects = turn.get("objects", [])
    if not isinstance(objects, list) or not all(is_whole(number) and number > 0 for number in objects):
        yield f"objects {quoted(objects)} are not whole numbers from 1."
    elif objects and not has_masks:
        yield f"it segments objects {quoted(objects)}, and the sample has no masks."


def _points(pairs: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in pairs)


def _run_length_problems(masks: Sequence[Any]) -> Iterator[str]:
    ids = set()
    for mask in masks:
        if not isinstance(mask, dict) or set(mask) != {"id", "size", "counts"}:
            yield 'a mask in the line is not an object with "id", "size" and "counts".'
            continue
        number, size, counts = mask["id"], mask["size"], mask["counts"]
        if not is_whole(number) or number < 1 or number in ids:
            yield f"mask id {quoted(number)} is not a whole number from 1 that no other mask has."
            continue
        ids.add(number)
        if not _all_whole(size) or len(size) != 2:
            yield f"mask {number} has the size {quoted(size)}, which is not [height, width]."
        elif min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            yield f"mask {number} has the size {size}, which is no picture's of at most {MAX_PIXELS:,} pixels."
        elif problem := _runs_problem(counts, size):
            yield f"mask {number} has {problem}."


def _runs_problem(counts: Any, size: Sequence[int]) -> str | None:
    """Why the counts of a mask are no runs of its size; the end of "it has …"."""
    pixels = size[0] * size[1]
    if isinstance(counts, str):
        try:
            runs_R = parse_runs(counts)
        except ValueError as error:
            return f"counts that {error}"
        if ((runs_R < 0) | (runs_R > pixels)).any():  # Whose sum might be beyond 64 bits.
            return f"counts with a run of less than 0 or more than {pixels} pixels"
        total = int(runs_R.sum())
    elif not _all_whole(counts) or min(counts, default=0) < 0:
        return "counts that are not runs of pixels"
    else:
        total = sum(counts)
    return None if total == pixels else f"runs of {total} pixels in all, and {size[0]}x{size[1]} are {pixels}"


def _all_whole(values: Any) -> bool:
    return isinstance(values, list) and all(is_whole(value) for value in values)


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(is_number(number) and 0 <= number <= 1 for number in value)
    )
