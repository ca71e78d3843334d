"""Data on disk: generated scenes and data of one's own in one format, read and written here.

A folder holds::

    dataset.json        what the numbers mean
    samples.jsonl       one sample a line
    images/             pictures: PNG, JPEG or whatever `perceptio.ops.image_files.read_image` reads
    depth/              depth maps: 16-bit gray PNG, or NPY
    masks/              objects: indexed or gray PNG
    maps/               whatever else is known of each pixel, by name: 8-bit PNG, or NPY

`dataset.json` is one object::

    {"format": "perceptio-data", "version": 1, "depth": {"unit": "metres", "scale": 0.00025},
     "maps": {"edges": {"channels": 1, "low": 0.0, "high": 1.0},
              "normals": {"channels": 3, "low": -1.0, "high": 1.0}}}

`depth.unit` is `"metres"` (along the optical axis or the ray, as the maker pleases) or `"disparity"` (relative
inverse depth of any scale, near is large). A 16-bit PNG holds `value * depth.scale` in that unit and 0 where depth is
unknown; an NPY file holds float32 [H, W] in that unit and NaN where unknown, and needs no scale. A folder without
depth leaves `depth` out.

`maps` declares the maps that samples may have: names of letters, digits, `_` and `-`, other than `depth`, `image`,
`masks` and `objects`; 1 or 3 `channels`; and the range of their values, from `low` to `high`. An 8-bit PNG, gray or
RGB, holds `low + value / 255 * (high - low)`, of every pixel; an NPY file holds float32 [H, W] or [H, W, channels],
and NaN in all channels of a pixel that is unknown. Values that lie outside the range by at most a thousandth of it,
as rounding may have it, are clipped; others are errors. A folder without maps leaves `maps` out.

Each line of `samples.jsonl` is one object::

    {"id": "kitchen-1", "image": "images/kitchen-1.jpg", "depth": "depth/kitchen-1.png",
     "masks": "masks/kitchen-1.png",
     "maps": {"edges": "maps/edges/kitchen-1.png", "normals": "maps/normals/kitchen-1.npy"},
     "turns": [
       {"task": "referring", "question": "Please segment the cup in this image.",
        "answer": "Sure, it is segmented.", "objects": [1]},
       {"task": "relative_depth", "question": "Which point is closest to the camera?", "answer": "(B)",
        "points": [[0.25, 0.5], [0.7, 0.625]]}]}

`id`, `image` and `turns` are required. Paths are relative to the folder, with `/`, and stay inside it; so must the
places that symbolic links lead to. Depth, masks and maps have the size of the picture (as shown, after its EXIF
rotation). A sample has any of the maps that `dataset.json` declares.
Of a mask PNG the pixel value is the number of an object, 0 where there is none; `masks` may instead list masks in the
line itself, which may overlap, as uncompressed COCO RLE: `[{"id": 1, "size": [H, W], "counts": [zeros, ones, zeros,
…]}]`, runs down the columns. Of a turn, `task`, `question` and `answer` are required; `objects` lists the objects
that the answer segments, in order of mention; `points` are (x, y) in [0, 1], x to the right and y down, lettered A,
B, … in order. The answer of a `relative_depth` turn is a letter in parentheses.

A line ends with a newline character and with nothing else, is UTF-8 and JSON without NaN, infinity or half a
surrogate pair. Pictures have up to 50 million pixels; every size that a file states is checked before anything is
decoded.

Unknown keys are errors, so that a misspelt one is not silently ignored.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import attrs
import numpy as np
from torch import Tensor

from perceptio.data.dataset_info import DatasetInfo, MapInfo, parse_info
from perceptio.data.loading import LoadedFiles, Maps, load_files, read_depth, read_picture
from perceptio.data.records import LINES_FILE, Problem, Records, SampleRecord, TurnRecord
from perceptio.data.writer import Entry, write_folder
from perceptio.errors import DataError, quoted
from perceptio.interfaces import DepthMap, Sample, Turn
from perceptio.ops.files import expanded
from perceptio.ops.paths import resolved_inside

__all__ = ["DatasetInfo", "Entry", "FolderDataset", "MapInfo", "write_folder"]


class FolderDataset(Sequence[Sample]):
    """The samples of a data folder.

    Lines are checked at once; pictures, depth and masks are read when a sample is asked for, and each of its maps
    when it is taken from the sample.

    Args:
        path: The folder.

    Raises:
        DataError: The folder, or a line of it, is not of the format.
    """

    def __init__(self, path: Path | str) -> None:
        self.root = expanded(path)
        self.info = parse_info(self.root)
        self.records = Records(self.root, self.info.maps)
        if not self.records:
            raise DataError(f"{self.root / LINES_FILE} lists no sample.")
        self.tasks = self.records.tasks

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]
        """Sample `number`: picture, depth, masks of all objects, maps to be read, and turns with their masks.

        Raises:
            DataError: A file of the sample is missing or broken, or does not fit the others; of a map, when it is
                taken from the sample.
        """
        record = self.records[number]
        files = self._load(record)
        masks: Mapping[int, np.ndarray] = files.masks or {}
        turns = tuple(
            attrs.evolve(_turn(turn), masks=tuple(masks[one] for one in turn.objects))
            for turn in record.turns
        )
        return attrs.evolve(files.sample(turns, self._place(record)), id=record.id)

    def turns(self, number: int) -> tuple[Turn, ...]:
        """The turns of sample `number` without their masks: no file is read."""
        return tuple(map(_turn, self.records[number].turns))

    def depth(self, number: int) -> DepthMap | None:
        """The depth of sample `number`; its picture and masks are not read.

        Raises:
            DataError: Its file is missing or broken.
        """
        depth = self.records[number].depth
        if depth is None:
            return None
        return read_depth(resolved_inside(self.root, depth, DataError), self.info)

    def map(self, number: int, name: str) -> np.ndarray | None:
        """A map of sample `number` as float32 [H, W, C], NaN where unknown; None where it has none of that name.

        Nothing else of the sample is read.

        Raises:
            DataError: Its file is missing or broken.
        """
        return Maps(self.root, self.info.maps, self.records[number].maps).get(name)

    def target(self, number: int, name: str) -> Any:
        """What sample `number` has for a stream that is written per image, as `Sample.target` gives it.

        Of what lies in a file of its own nothing else is read.

        Raises:
            DataError: Its file is missing or broken.
        """
        if name == "image":
            return self.image(number)
        if name == "objects":
            masks = tuple(self.object_masks(number).values())
            return np.stack(masks) if masks else None
        return self.depth(number) if name == "depth" else self.map(number, name)

    def image(self, number: int) -> Tensor:
        """The picture of sample `number`, RGB [3, H, W] in [0, 1]; nothing else of the sample is read.

        Raises:
            DataError: Its file is missing or broken.
        """
        return read_picture(self.root, self.records[number].image)

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))

    def object_masks(self, number: int) -> Mapping[int, np.ndarray]:
        """The boolean masks [H, W] of all objects of a sample by their numbers; empty where it has none."""
        return self._load(self.records[number]).masks or {}

    def _place(self, record: SampleRecord) -> str:
        return f"{self.root / LINES_FILE} line {record.line} ({quoted(record.id)})"

    def _load(self, record: SampleRecord) -> LoadedFiles:
        problems: list[Problem] = []
        files = load_files(self.root, self.info, record, problems)
        if problems:
            raise self._error(problems[0])
        return files

    def _error(self, problem: Problem) -> DataError:
        return DataError(
            f"{self.root}/{problem} `perceptio data check {quote(str(self.root))}` lists all problems."
        )


def _turn(record: TurnRecord) -> Turn:
    return Turn(task=record.task, question=record.question, answer=record.answer, points=record.points)
