"""Depth maps of another data folder with the same pictures, so that several data sets can share one map."""

import filecmp
import os
from pathlib import Path

from perceptio.data.folder.dataset_info import parse_info
from perceptio.data.folder.files import Files, split_root
from perceptio.data.folder.places import check_unpacked
from perceptio.data.folder.records import Problem, parse_lines
from perceptio.errors import DataError

ROOT = "depth"


class DepthBeside:
    """Finds depth maps of pictures in another data folder.

    A picture is identified by its path after resolving symbolic links. If the folder does not have that path, for
    instance because the picture is a copy, the picture is identified by its file's name and content.

    Args:
        folder: The data folder, such as one written by `perceptio depth-targets`.

    Attributes:
        folder: The data folder, with symbolic links resolved.
        info: The folder's dataset information, with the unit of its depth.
        roots: The roots that contain the maps, by the names used in samples.

    Raises:
        DataError: The folder does not exist or is packed, one of its lines is broken, or it has no depth.
    """

    def __init__(self, folder: Path) -> None:
        check_unpacked(folder, "depth that other folders name lies in")
        self.folder = folder = Path(os.path.realpath(folder))
        self.info = parse_info(folder)
        files = Files(folder, self.info.roots)
        self.roots: dict[str, str] = {}
        self._by_place: dict[str, str] = {}
        self._by_name: dict[str, list[tuple[Path, str]]] = {}
        if self.info.depth_unit is None:
            raise DataError(f"{folder} has no depth: make it with `perceptio depth-targets`.")
        for record in parse_lines(folder):
            if isinstance(record, Problem):
                raise DataError(f"{folder}/{record}")
            if record.image is None or record.depth is None:
                continue
            place = files.where(record.image)
            depth = self._named(record.depth)
            self._by_place[os.path.realpath(place)] = depth
            self._by_name.setdefault(place.name, []).append((place, depth))

    def depth_of(self, picture: Path) -> str | None:
        """Return the path of a picture's depth map as samples write it, or None if there is none."""
        if (known := self._by_place.get(os.path.realpath(picture))) is not None:
            return known
        copies = (
            depth
            for place, depth in self._by_name.get(picture.name, ())
            if place.is_file() and filecmp.cmp(place, picture, shallow=False)
        )
        return next(copies, None)

    def _named(self, depth: str) -> str:
        """Return a path in this folder as another folder's samples write it, and record its root."""
        root, inside = split_root(depth, self.info.roots)
        name = ROOT if root is None else f"{ROOT}-{root}"
        self.roots.setdefault(name, str(self.folder if root is None else self.folder / self.info.roots[root]))
        return f"{name}:{inside}"
