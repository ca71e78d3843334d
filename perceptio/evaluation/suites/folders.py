"""Data folders as data of suites."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from perceptio.data.folder import FolderDataset
from perceptio.data.folder.dataset_info import INFO_FILE
from perceptio.data.folder.records import SampleRecord
from perceptio.evaluation.suites.suite import SuiteData
from perceptio.interfaces import Sample, Turn


class FolderData(SuiteData):
    """The samples of a data folder that have something to be asked.

    Args:
        dataset: The folder.
        asked: What is asked of a sample, of its record and its turns: some of these, or turns of its own.
    """

    def __init__(
        self, dataset: FolderDataset, asked: Callable[[SampleRecord, Sequence[Turn]], Sequence[Turn]]
    ) -> None:
        self.dataset, self.place, self.units = dataset, dataset.root, dataset.info.units
        self._asked = asked
        self._numbers = [number for number in range(len(dataset)) if self._turns(number)]

    def __len__(self) -> int:
        return len(self._numbers)

    def name(self, number: int) -> str:
        """See `SuiteData.name`."""
        return self.dataset.records[self._numbers[number]].id

    def turns(self, number: int) -> Sequence[Turn]:
        """See `SuiteData.turns`."""
        return self._turns(self._numbers[number])

    def sample(self, number: int) -> Sample:
        """See `SuiteData.sample`."""
        place = self._numbers[number]
        sample = self.dataset[place]
        return attrs.evolve(sample, turns=tuple(self._asked(self.dataset.records[place], sample.turns)))

    def _turns(self, place: int) -> Sequence[Turn]:
        record = self.dataset.records[place]
        return () if record.image is None else self._asked(record, self.dataset.turns(place))


def is_data_folder(path: Path) -> bool:
    """Whether a path is a data folder of this library."""
    return (path / INFO_FILE).is_file()


def data_folders(path: Path) -> list[Path]:
    """The data folders in a folder, such as the splits of a set; the folder itself where it has none."""
    inside = sorted(path.iterdir()) if path.is_dir() and not is_data_folder(path) else []
    return [folder for folder in inside if is_data_folder(folder)] or [path]
