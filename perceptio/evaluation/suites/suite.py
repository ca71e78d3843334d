"""What a suite is: which data, which questions and how they are asked, and which figures their answers come to.

A suite's data are pictures with questions. What is asked is known before a picture is read, so that the questions are
shared out among processes, and an evaluation that was stopped knows where it was.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs

from perceptio.evaluation.answers import ScoredAnswer
from perceptio.interfaces import Pass, Sample, Turn
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.json_files import format_json


class SuiteData(ABC):
    """Pictures in a fixed order, each with what is asked about it.

    Attributes:
        place: Where they lie.
        units: The units that the data state, as `TaskData.units`.
    """

    place: Path
    units: Mapping[str, str] = {}

    @abstractmethod
    def __len__(self) -> int:
        """How many pictures there are."""

    @abstractmethod
    def name(self, number: int) -> str:
        """The name of a picture, which no other of these data has."""

    @abstractmethod
    def turns(self, number: int) -> Sequence[Turn]:
        """What is asked about a picture; no picture and no mask is read."""

    @abstractmethod
    def sample(self, number: int) -> Sample:
        """A picture with these turns, and whatever their answers are measured against.

        Raises:
            DataError: A file is missing or broken.
        """

    @abstractmethod
    def content(self, count: int) -> str:
        """A hash of the first pictures, and of whatever answers about them are measured against.

        Raises:
            DataError: A file is missing.
        """

    def labels(self, number: int, place: int) -> Mapping[str, Any]:
        """What figures tell a question by, such as its source; kept with its answer."""
        return {}


@attrs.frozen(kw_only=True)
class Suite(ABC):
    """One benchmark; its fields are its settings.

    Attributes:
        name: What the command line calls it.
        about: What it measures, in a few words.
    """

    name: ClassVar[str]
    about: ClassVar[str]

    @abstractmethod
    def open(self, path: Path, model: PerceptionModel) -> SuiteData:
        """The data at a path, with what is asked of a model.

        Raises:
            DataError: They are not there, or not of the suite's layout.
            InputError: The model lacks what the suite needs.
        """

    @abstractmethod
    def asking(self, model: PerceptionModel, data: SuiteData) -> Pass:
        """How a model is asked about the data; of a reply it keeps what `figures` needs.

        Raises:
            InputError: The model lacks what the suite needs.
        """

    @abstractmethod
    def figures(self, answers: Iterable[ScoredAnswer]) -> dict[str, Any]:
        """The figures of the answers to all questions of some data."""


def hash_of(data: SuiteData, count: int) -> str:
    """A SHA-256 of the first pictures of some data, of what is asked, and of what answers are measured by.

    Where they lie does not count.

    Raises:
        DataError: A file is missing.
    """
    sha = hashlib.sha256(data.content(count).encode())
    for number in range(count):
        asked = [
            [turn.id, turn.task, turn.question, turn.answer, turn.points, data.labels(number, place)]
            for place, turn in enumerate(data.turns(number))
        ]
        sha.update(format_json([data.name(number), asked]).encode())
    return sha.hexdigest()
