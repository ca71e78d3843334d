"""`dataset.json`: the meaning of the values in a data folder, and all rules for the file.

The format is documented in `perceptio.data.folder`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from perceptio.data.folder.files import ROOT_NAME
from perceptio.data.folder.json_rules import is_number, key_problems
from perceptio.errors import DataError, quoted
from perceptio.interfaces import NO_MAPS, MapInfo
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import read_json

FORMAT, VERSION = "perceptio-data", 1
INFO_FILE = "dataset.json"
UNFINISHED_FILE = "dataset.unfinished.json"
"""The file that becomes `INFO_FILE` when a folder that is being written line by line is complete."""
SCALES = (1e-12, 1e12)
"""Range of the factor for 16-bit values, so that depth fits float32."""
MAP_LIMIT = 1e12
"""Bound on the absolute value of both ends of a map's range."""


def _copied(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict, which can be pickled, unlike a read-only view."""
    return dict(given)


@attrs.frozen(kw_only=True)
class DatasetInfo:
    """The content of `dataset.json`.

    Attributes:
        depth_unit: The unit of depth; None if the folder has no depth.
        depth_scale: The factor for 16-bit values of depth.
        maps: The maps that samples may have, by name.
        roots: Other folders that hold files of samples, by the name with which their paths begin.
    """

    depth_unit: Literal["metres", "disparity"] | None = None
    depth_scale: float | None = None
    maps: Mapping[str, MapInfo] = attrs.field(factory=dict, converter=_copied)
    roots: Mapping[str, str] = attrs.field(factory=dict, converter=_copied)

    @property
    def units(self) -> dict[str, str]:
        """The units that it states, by target."""
        return {} if self.depth_unit is None else {"depth": self.depth_unit}

    def declares(self, name: str) -> bool:
        """Return whether samples may have a stream's `target`; masks need no declaration."""
        return name in ("image", "masks", "objects") or name in self.units or name in self.maps

    def to_json(self) -> dict[str, Any]:
        """Return the object that `parse_info` reads."""
        written: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        if self.depth_unit is not None:
            written["depth"] = {"unit": self.depth_unit}
            if self.depth_scale is not None:
                written["depth"]["scale"] = self.depth_scale
        if self.maps:
            written["maps"] = {name: attrs.asdict(info) for name, info in self.maps.items()}
        if self.roots:
            written["roots"] = dict(self.roots)
        return written


def parse_info(root: Path) -> DatasetInfo:
    """Read `dataset.json`.

    Raises:
        DataError: It is missing, not JSON, of another format or version, or has an invalid value.
    """
    path = root / INFO_FILE
    with parsing(DataError, f"{root} cannot be read ({{reason}}): check the path."):
        if not root.is_dir():
            raise DataError(
                f"There is no folder {root}: check the path, or write one with `perceptio scenes`."
            )
        if not path.is_file():
            if (root / UNFINISHED_FILE).is_file():
                raise DataError(
                    f"{root} is not finished, as its writing was stopped: run the command that writes it again, "
                    "or remove the folder."
                )
            raise DataError(
                f"{root} has no {INFO_FILE}, so it is no data folder; the format is documented in "
                "perceptio.data.folder."
            )
    found = read_json(path, remedy="the format is documented in perceptio.data.folder")
    problem = next(info_problems(found), None)
    if problem:
        raise DataError(f"{path}: {problem}")
    depth = found.get("depth", {})
    maps = {name: MapInfo(**declared) for name, declared in found.get("maps", {}).items()}
    return DatasetInfo(
        depth_unit=depth.get("unit"),
        depth_scale=depth.get("scale"),
        maps=maps,
        roots=found.get("roots", {}),
    )


def info_problems(found: Any) -> Iterator[str]:
    """Yield every problem in the value of `dataset.json`."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        yield f'it does not say "format": "{FORMAT}".'
        return
    if found.get("version") != VERSION:
        yield f"version {quoted(found.get('version'))} is not {VERSION}, the one that this release reads."
    yield from key_problems(found, {"format", "version"}, {"depth", "maps", "roots"})
    yield from _depth_problems(found.get("depth", {"unit": "metres"}))
    yield from _maps_problems(found.get("maps", {}))
    yield from _roots_problems(found.get("roots", {}))


def _depth_problems(depth: Any) -> Iterator[str]:
    if not isinstance(depth, dict):
        yield '"depth" is not an object with "unit" and "scale".'
        return
    yield from key_problems(depth, {"unit"}, {"scale"})
    if depth.get("unit") not in ["metres", "disparity"]:
        yield f'depth unit {quoted(depth.get("unit"))} is neither "metres" nor "disparity".'
    scale = depth.get("scale", 1.0)
    if not is_number(scale) or not SCALES[0] <= scale <= SCALES[1]:
        yield f"depth scale {quoted(scale)} is not a number from {SCALES[0]:g} to {SCALES[1]:g}."


def _maps_problems(maps: Any) -> Iterator[str]:
    if not isinstance(maps, dict):
        yield '"maps" is not an object of names, each with "channels", "low" and "high".'
        return
    for name, declared in maps.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
            yield f'map name {quoted(name)} is not 1 to 80 letters, digits, "_" or "-".'
        if name in NO_MAPS:
            yield f"map name {quoted(name)} is taken: {', '.join(NO_MAPS)} are what else a sample has."
        yield from (f"map {quoted(name)}: {message}" for message in _map_problems(declared))


def _roots_problems(roots: Any) -> Iterator[str]:
    if not isinstance(roots, dict):
        yield '"roots" is not an object of names, each with a folder.'
        return
    for name, place in roots.items():
        if not re.fullmatch(ROOT_NAME, name):
            yield f'root name {quoted(name)} is not 1 to 80 letters, digits, "_" or "-".'
        if not isinstance(place, str) or not place or "\0" in place:
            yield f"root {quoted(name)} lies in {quoted(place)}, which is no path of a folder."


def _map_problems(declared: Any) -> Iterator[str]:
    if not isinstance(declared, dict):
        yield 'it is not an object with "channels", "low" and "high".'
        return
    yield from key_problems(declared, {"channels", "low", "high"}, set())
    channels, low, high = declared.get("channels", 1), declared.get("low", 0.0), declared.get("high", 1.0)
    if type(channels) is not int or channels not in (1, 3):
        yield f"channels {quoted(channels)} is neither 1 nor 3."
    bounds_are_numbers = True
    for key, value in (("low", low), ("high", high)):
        if not is_number(value) or not abs(value) <= MAP_LIMIT:
            bounds_are_numbers = False
            yield f"{key} {quoted(value)} is not a number from {-MAP_LIMIT:g} to {MAP_LIMIT:g}."
    if bounds_are_numbers and "low" in declared and "high" in declared and not low < high:
        yield f"low {quoted(low)} is not less than high {quoted(high)}."
