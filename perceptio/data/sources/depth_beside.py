"""Depth that another data folder has of the same pictures, so that one map serves several data sets."""

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
    """The depth maps of a data folder, by the pictures that they are of.

    A picture is known by where it lies, links followed; where that is nowhere in the folder, as with copies, by the
    name and the bytes of its file.

    Args:
        folder: The data folder, such as `perceptio depth-targets` writes.

    Attributes:
        info: What its numbers mean.
        roots: The roots that its maps lie in, by the names that samples give them.

    Raises:
        DataError: There is no such folder, a line of it is broken, or it has no depth.
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
        """The path of the depth map of a picture, as a sample has it; None where there is none."""
        if (known := self._by_place.get(os.path.realpath(picture))) is not None:
            return known
        copies = (
            depth
            for place, depth in self._by_name.get(picture.name, ())
            if place.is_file() and filecmp.cmp(place, picture, shallow=False)
        )
        return next(copies, None)

    def _named(self, depth: str) -> str:
        """A path of the folder's as another folder says it; its root is noted."""
        root, inside = split_root(depth, self.info.roots)
        name = ROOT if root is None else f"{ROOT}-{root}"
        self.roots.setdefault(name, str(self.folder if root is None else self.folder / self.info.roots[root]))
        return f"{name}:{inside}"
