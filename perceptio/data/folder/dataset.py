"""Reading a data folder: samples by number, and single files of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import attrs
import numpy as np
from torch import Tensor

from perceptio.data.folder.loading import LoadedFiles, Maps, load_files, read_depth, read_picture
from perceptio.data.folder.places import open_place
from perceptio.data.folder.records import LINES_FILE, Problem, Records, SampleRecord
from perceptio.errors import DataError, quoted
from perceptio.interfaces import DepthMap, Sample, Turn, TurnRecord


class FolderDataset(Sequence[Sample]):
    """The samples of a data folder.

    Lines are checked immediately. Images, depth and masks are read when a sample is accessed, and each of its maps
    when it is taken from the sample.

    Args:
        path: The folder, or the address of a packed one, such as `s3://bucket/corpus`.

    Attributes:
        name: Its name in messages: its path or its address.
        root: The local folder that holds its lines and its codes.
        info: The content of its `dataset.json`.
        files: The files that its samples name.
        records: Its lines.
        tasks: The tasks of each sample's turns.

    Raises:
        DataError: The folder or one of its lines does not follow the format.
    """

    def __init__(self, path: Path | str) -> None:
        place = open_place(path)
        self.name, self.root, self.info, self.files = place.name, place.root, place.info, place.files
        self.records = Records(self.root, self.info, self.name)
        if not self.records:
            raise DataError(f"{self.name}/{LINES_FILE} lists no sample.")
        self.tasks = self.records.tasks

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]
        """Return sample `number`: image, depth, masks of all objects, maps read on access, and turns with masks.

        A sample without an image has only turns.

        Raises:
            DataError: A file of the sample is missing or broken, or does not fit the others; for a map, when it is
                taken from the sample.
        """
        record = self.records[number]
        files = self._load(record)
        masks: Mapping[int, np.ndarray] = files.masks or {}
        turns = tuple(
            attrs.evolve(_turn(turn), masks=tuple(masks[one] for one in turn.objects))
            for turn in record.turns
        )
        sample = files.sample(turns, self._place(record))
        return attrs.evolve(sample, id=record.id, ordered=record.ordered)

    def with_target(self, name: str) -> np.ndarray:
        """Return the numbers of the samples that have a stream's `target`, int64 in ascending order."""
        return self.records.with_target(name)

    def turns(self, number: int) -> tuple[Turn, ...]:
        """Return the turns of sample `number` without their masks; reads no file."""
        return tuple(map(_turn, self.records[number].turns))

    def depth(self, number: int) -> DepthMap | None:
        """Return the depth of sample `number`, without reading its image and masks.

        Raises:
            DataError: Its file is missing or broken.
        """
        depth = self.records[number].depth
        if depth is None:
            return None
        return read_depth(self.files.found(depth), self.info)

    def map(self, number: int, name: str) -> np.ndarray | None:
        """Return a map of sample `number`, float32 [H, W, C], NaN where unknown; None if it has no map of this name.

        Reads nothing else of the sample.

        Raises:
            DataError: Its file is missing or broken.
        """
        return Maps(self.files, self.info.maps, self.records[number].maps).get(name)

    def target(self, number: int, name: str) -> Any:
        """Return the target of sample `number` for a stream that is written per image, as `Sample.target` returns it.

        Reads only the file of the target, if it has its own.

        Raises:
            DataError: Its file is missing or broken.
        """
        if name == "image":
            return self.image(number)
        if name == "objects":
            masks = tuple(self.object_masks(number).values())
            return np.stack(masks) if masks else None
        return self.depth(number) if name == "depth" else self.map(number, name)

    def image(self, number: int) -> Tensor | None:
        """Return the image of sample `number`, RGB [3, H, W] in [0, 1], or None; reads nothing else of the sample.

        Raises:
            DataError: Its file is missing or broken.
        """
        image = self.records[number].image
        return None if image is None else read_picture(self.files, image)

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))

    def object_masks(self, number: int) -> Mapping[int, np.ndarray]:
        """Return the boolean masks [H, W] of all objects of a sample by their numbers; empty if it has none."""
        return self._load(self.records[number]).masks or {}

    def _place(self, record: SampleRecord) -> str:
        return f"{self.name}/{LINES_FILE} line {record.line} ({quoted(record.id)})"

    def _load(self, record: SampleRecord) -> LoadedFiles:
        problems: list[Problem] = []
        files = load_files(self.files, self.info, record, problems)
        if problems:
            raise self._error(problems[0])
        return files

    def _error(self, problem: Problem) -> DataError:
        return DataError(
            f"{self.name}/{problem} `perceptio data check {quote(str(self.name))}` lists all problems."
        )


def _turn(record: TurnRecord) -> Turn:
    return Turn(
        task=record.task,
        question=record.question,
        answer=record.answer,
        points=record.points,
        id=record.id,
    )
