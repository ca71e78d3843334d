"""Data folders as the data of suites."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

import attrs

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.dataset_info import INFO_FILE
from perceptio.data.folder.identity import hash_of_data, hash_of_samples
from perceptio.evaluation.suites.suite import SuiteData
from perceptio.interfaces import Sample, Turn


class FolderData(SuiteData):
    """Samples of a data folder that have an image, and the questions about each.

    Args:
        dataset: The folder.
        numbers: Numbers of the samples to use.
        asked: Returns the turns to ask, given a sample's turns: some of these, or others.
    """

    def __init__(
        self,
        dataset: FolderDataset,
        numbers: Iterable[int],
        asked: Callable[[Sequence[Turn]], Sequence[Turn]],
    ) -> None:
        self.dataset, self.place, self.units = dataset, dataset.root, dataset.info.units
        self._numbers = sorted(set(numbers) & set(dataset.with_target("image").tolist()))
        self._asked = asked

    @classmethod
    def of_task(cls, dataset: FolderDataset, task: str) -> Self:
        """Return the questions of a task."""
        numbers = (number for number, tasks in enumerate(dataset.tasks) if task in tasks)
        return cls(dataset, numbers, lambda turns: [turn for turn in turns if turn.task == task])

    def __len__(self) -> int:
        return len(self._numbers)

    def name(self, number: int) -> str:
        """See `SuiteData.name`."""
        return self.dataset.records[self._numbers[number]].id

    def turns(self, number: int) -> Sequence[Turn]:
        """See `SuiteData.turns`."""
        return self._asked(self.dataset.turns(self._numbers[number]))

    def content(self, count: int) -> str:
        """See `SuiteData.content`; the hash of a whole folder is cached until a file changes."""
        if count == len(self):
            return hash_of_data(self.dataset)
        return hash_of_samples(self.dataset, self._numbers[:count])

    def sample(self, number: int) -> Sample:
        """See `SuiteData.sample`."""
        sample = self.dataset[self._numbers[number]]
        return attrs.evolve(sample, turns=tuple(self._asked(sample.turns)))


def is_data_folder(path: Path) -> bool:
    """Return whether a path is a data folder of this library."""
    return (path / INFO_FILE).is_file()


def data_folders(path: Path) -> list[Path]:
    """Return the data folders in a folder, such as the splits of a set, or the folder itself if it has none."""
    inside = sorted(path.iterdir()) if path.is_dir() and not is_data_folder(path) else []
    return [folder for folder in inside if is_data_folder(folder)] or [path]
