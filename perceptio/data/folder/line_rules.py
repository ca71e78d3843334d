"""All rules for a line of a data folder that can be checked without reading files, each with its message.

The format is documented in `perceptio.data.folder`. Each rule is written once, as a message that is yielded. A
dataset raises the first, `perceptio.data.folder.check.check_folder` reports all, and writers check before they write.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perceptio.data.folder.dataset_info import INFO_FILE, DatasetInfo
from perceptio.data.folder.files import why_no_file
from perceptio.data.folder.json_rules import is_number, is_whole, key_problems
from perceptio.errors import quoted
from perceptio.interfaces import LETTERS, TaskConfig, Turn
from perceptio.ops.image_files import MAX_PIXELS
from perceptio.ops.run_lengths import parse_runs

_PLAIN_TURN = {"task", "question", "answer"}


def line_problems(raw: Any, info: DatasetInfo, rules: Mapping[str, TaskConfig]) -> Iterator[str]:
    """Yield every problem in the value of a line.

    Args:
        raw: The value.
        info: The content of `dataset.json`.
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
    """Return whether a turn is only question and answer without further rules, as most turns in large corpora are."""
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
        yield from rules[words["task"]].problems(Turn(**words, points=as_points(points)))
    objects = turn.get("objects", [])
    if not isinstance(objects, list) or not all(is_whole(number) and number > 0 for number in objects):
        yield f"objects {quoted(objects)} are not whole numbers from 1."
    elif objects and not has_masks:
        yield f"it segments objects {quoted(objects)}, and the sample has no masks."


def as_points(pairs: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    """Return points in the form that records use."""
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
    """Return why the counts of a mask are not runs of its size, as the end of "it has …"."""
    pixels = size[0] * size[1]
    if isinstance(counts, str):
        try:
            runs_R = parse_runs(counts)
        except ValueError as error:
            return f"counts that {error}"
        if ((runs_R < 0) | (runs_R > pixels)).any():  # Their sum could exceed 64 bits.
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
