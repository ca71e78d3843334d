"""Writing a complete data folder atomically.

Shapes: H W pixels, C channels of a map.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image

from perceptio.data.folder.dataset_info import INFO_FILE, DatasetInfo, MapInfo, info_problems
from perceptio.data.folder.kept import HASH_FILES, INDEX_FILE
from perceptio.data.folder.line_rules import line_problems
from perceptio.data.folder.loading import DEPTH_LEVELS, MAP_LEVELS, check_map
from perceptio.data.folder.records import LINES_FILE
from perceptio.data.tasks import task_rules
from perceptio.errors import DataError, quoted
from perceptio.interfaces import DepthMap, TaskConfig, Turn
from perceptio.ops.files import check_only, disk_errors, expanded, is_free, new_folder
from perceptio.ops.image_files import MIN_SIDE
from perceptio.ops.json_files import InvalidJSONError, format_json, write_json

MAX_OBJECTS = 255
_CHUNK = 32


@attrs.frozen(kw_only=True, eq=False)
class Entry:
    """A sample to write.

    Attributes:
        id: Its name, which also names its files.
        image_HW3: uint8 RGB.
        depth: Depth of the image's size, or None.
        object_ids_HW: Number of the object that each pixel shows, 0 for none, at most 255; or None.
        maps: Values [H, W] or [H, W, C] of maps that the folder declares, by name, NaN where unknown. A map that is
            known everywhere is written as an 8-bit PNG, other maps as NPY.
        turns: Questions and answers; each mask of a turn is one of the objects.
    """

    id: str
    image_HW3: np.ndarray
    depth: DepthMap | None = None
    object_ids_HW: np.ndarray | None = None
    maps: Mapping[str, np.ndarray] = attrs.field(factory=dict)
    turns: tuple[Turn, ...] = ()


def write_folder(
    path: Path | str,
    entries: Sequence[Entry],
    *,
    info: DatasetInfo | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
    replace: bool = False,
) -> None:
    """Write entries as a data folder, which appears under its name only when it is complete.

    Args:
        path: The folder.
        entries: The entries; each is accessed once, in a worker, so it can be computed there.
        info: Unit and scale of depth, and the maps that entries may have. The default has no maps, and depth in
            units of a quarter of a millimetre, up to 16.38 metres.
        workers: Number of processes; 1 writes in this process.
        progress: Called with the number of entries written so far.
        replace: Whether to replace an existing data folder, once the new one is complete.

    Raises:
        DataError: The folder exists, the disk is full or not writable, or an entry does not follow the format.
            Earlier content is unchanged.
    """
    path, info = expanded(path), info or DatasetInfo(depth_unit="metres", depth_scale=0.00025)
    for problem in info_problems(info.to_json()):
        raise DataError(f"{path} cannot be written, as of its {INFO_FILE}: {problem}")
    with disk_errors(path, DataError):
        if not replace and not is_free(path):
            raise DataError(f"{path} exists already: choose another folder, or remove it.")
        hashes = HASH_FILES.format("*")
        own = (LINES_FILE, INDEX_FILE, hashes, "images", "depth", "masks", "maps", "codes", "depth_codes.*")
        check_only(path, known_by=(INFO_FILE,), own=own)
    with disk_errors(path, DataError), new_folder(path) as folder:
        for name in ("images", "depth", "masks"):
            (folder / name).mkdir()
        write = partial(_write_range, folder, info, entries)
        starts = range(0, len(entries), _CHUNK)
        ids: set[str] = set()
        with (folder / LINES_FILE).open("w", encoding="utf-8") as lines:
            for done, chunk in enumerate(_run(write, starts, workers), start=1):
                for name, line in chunk:
                    if name in ids:
                        raise DataError(f"Two entries have the id {quoted(name)}: ids must differ.")
                    ids.add(name)
                    lines.write(line)
                if progress is not None:
                    progress(min(done * _CHUNK, len(entries)))
        write_json(folder / INFO_FILE, info.to_json())


def _run(write: Callable[[int], list], starts: range, workers: int) -> Iterator[list]:
    if workers == 1:
        yield from map(write, starts)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(write, starts)
        finally:
            pool.shutdown(cancel_futures=True)


def _write_range(
    folder: Path, info: DatasetInfo, entries: Sequence[Entry], start: int
) -> list[tuple[str, str]]:
    stop, rules = min(start + _CHUNK, len(entries)), task_rules()
    return [_write_entry(folder, info, entries[number], rules) for number in range(start, stop)]


def _write_entry(
    folder: Path, info: DatasetInfo, entry: Entry, rules: Mapping[str, TaskConfig]
) -> tuple[str, str]:
    """Write the files of an entry and return its id and its line."""
    _check(entry)
    maps_HWC = {name: _checked_map(name, entry, info) for name in entry.maps}
    line: dict[str, Any] = {"id": entry.id, "image": f"images/{entry.id}.png"}
    if entry.depth is not None:
        line["depth"] = f"depth/{entry.id}.png"
    if entry.object_ids_HW is not None:
        line["masks"] = f"masks/{entry.id}.png"
    if maps_HWC:
        line["maps"] = {
            name: f"maps/{name}/{entry.id}.{'npy' if np.isnan(values_HWC).any() else 'png'}"
            for name, values_HWC in maps_HWC.items()
        }
    line["turns"] = [_turn_line(turn, entry) for turn in entry.turns]
    # Refuse here what the reader would refuse, with the same message.
    for problem in line_problems(line, info, rules):
        raise DataError(f"Entry {quoted(entry.id)} cannot be written: {problem}")
    try:
        text = format_json(line)
    except InvalidJSONError as error:
        raise DataError(f"Entry {quoted(entry.id)} cannot be written: {error}.") from error
    _save_png(entry.image_HW3, folder / line["image"])
    if entry.depth is not None:
        _save_png(_stored_depth(entry, info), folder / line["depth"])
    if entry.object_ids_HW is not None:
        _save_png(entry.object_ids_HW.astype(np.uint8), folder / line["masks"])
    for name, values_HWC in maps_HWC.items():
        _save_map(values_HWC, info.maps[name], folder / line["maps"][name])
    return entry.id, text


def _check(entry: Entry) -> None:
    """Refuse arrays that cannot be stored without loss."""
    shape = entry.image_HW3.shape
    if entry.image_HW3.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < MIN_SIDE:
        raise DataError(
            f"Entry {quoted(entry.id)} has a picture of {entry.image_HW3.dtype} {list(shape)}: give uint8 RGB of at "
            f"least {MIN_SIDE} pixels on each side."
        )
    maps = {"depth": None if entry.depth is None else entry.depth.values_HW, "objects": entry.object_ids_HW}
    for name, values_HW in maps.items():
        if values_HW is not None and values_HW.shape != shape[:2]:
            raise DataError(
                f"Entry {quoted(entry.id)} has {name} of {list(values_HW.shape)} and a picture of {list(shape[:2])}: "
                "they must have one size."
            )
    ids_HW = entry.object_ids_HW
    if ids_HW is not None and not (ids_HW.min() >= 0 and ids_HW.max() <= MAX_OBJECTS):
        raise DataError(f"Entry {quoted(entry.id)} has object numbers outside 0 to {MAX_OBJECTS}.")


def _checked_map(name: str, entry: Entry, info: DatasetInfo) -> np.ndarray:
    """Return a map of an entry as [H, W, C], after checking that the folder declares it."""
    if name not in info.maps:
        raise DataError(
            f"Entry {quoted(entry.id)} has a map {quoted(name)}, and the folder is to hold "
            f"{', '.join(sorted(info.maps)) or 'no maps'}: give write_folder an `info` that declares it."
        )
    declared, given = info.maps[name], entry.maps[name]
    values_HWC = given[..., None] if given.ndim == 2 and declared.channels == 1 else given
    wanted = (*entry.image_HW3.shape[:2], declared.channels)
    if values_HWC.shape != wanted or given.dtype.kind != "f":
        raise DataError(
            f"Entry {quoted(entry.id)} has a map {quoted(name)} of {given.dtype} {list(given.shape)}: "
            f"give floating-point numbers of {list(wanted)}."
        )
    check_map(values_HWC, declared, f"Entry {quoted(entry.id)} cannot be written: its map {quoted(name)}")
    return values_HWC


def _save_map(values_HWC: np.ndarray, declared: MapInfo, path: Path) -> None:
    """Write a map as NPY or PNG, depending on the file's suffix."""
    if path.suffix == ".npy":
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values_HWC.astype(np.float32))
        return
    share_HWC = (values_HWC - declared.low) / (declared.high - declared.low)
    levels_HWC = np.rint(share_HWC * MAP_LEVELS).clip(0, MAP_LEVELS).astype(np.uint8)
    _save_png(levels_HWC[..., 0] if declared.channels == 1 else levels_HWC, path)


def _save_png(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def _stored_depth(entry: Entry, info: DatasetInfo) -> np.ndarray:
    assert entry.depth is not None
    if entry.depth.unit != info.depth_unit or info.depth_scale is None:
        raise DataError(
            f"Entry {quoted(entry.id)} has depth in {entry.depth.unit}, and the folder is to hold {info.depth_unit}"
            f" with scale {info.depth_scale}: give write_folder an `info` that fits."
        )
    if not (~np.isnan(entry.depth.values_HW)).any():
        raise DataError(f"Entry {quoted(entry.id)} has depth without a known pixel: leave it out.")
    levels_HW = np.rint(entry.depth.values_HW / info.depth_scale)
    if np.nanmax(levels_HW) > DEPTH_LEVELS or np.nanmin(levels_HW) < 1:
        raise DataError(
            f"Entry {quoted(entry.id)} has depths outside {info.depth_scale:g} to {info.depth_scale * DEPTH_LEVELS:g}"
            f" {info.depth_unit}, the range of 16 bits: choose another scale."
        )
    return np.nan_to_num(levels_HW, nan=0.0).astype(np.uint16)


def _turn_line(turn: Turn, entry: Entry) -> dict[str, Any]:
    line: dict[str, Any] = {"task": turn.task, "question": turn.question, "answer": turn.answer}
    if turn.points:
        line["points"] = [list(point) for point in turn.points]
    if turn.masks:
        line["objects"] = [_object_of(mask, entry) for mask in turn.masks]
    return line


def _object_of(mask: np.ndarray, entry: Entry) -> int:
    ids_HW = entry.object_ids_HW
    number = 0 if ids_HW is None or not mask.any() else int(ids_HW[mask][0])
    if ids_HW is None or number == 0 or not np.array_equal(ids_HW == number, mask):
        raise DataError(f"Entry {quoted(entry.id)} has a turn whose mask is none of its objects.")
    return number
