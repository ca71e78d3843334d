"""The interface of a suite: its data, its questions and how they are asked, and the figures of the answers.

A suite's data are images with questions. The questions are known before any image is read, so that they can be shared
among processes, and an interrupted evaluation can continue.
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
    """Images in a fixed order, each with its questions.

    Attributes:
        place: Where the data are.
        units: The units of the data, see `TaskData.units`.
    """

    place: Path
    units: Mapping[str, str] = {}

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def name(self, number: int) -> str:
        """Return the name of an image, which is unique in these data."""

    @abstractmethod
    def turns(self, number: int) -> Sequence[Turn]:
        """Return the questions about an image, without reading images or masks."""

    @abstractmethod
    def sample(self, number: int) -> Sample:
        """Return an image with these turns, and the ground truth that answers are measured against.

        Raises:
            DataError: A file is missing or broken.
        """

    @abstractmethod
    def content(self, count: int) -> str:
        """Return a hash of the first `count` images, and of the ground truth for answers about them.

        Raises:
            DataError: A file is missing.
        """

    def labels(self, number: int, place: int) -> Mapping[str, Any]:
        """Return the labels by which figures group a question, such as its source; they are kept with its answer."""
        return {}


@attrs.frozen(kw_only=True)
class Suite(ABC):
    """One benchmark; its fields are its settings.

    Attributes:
        name: Its name on the command line.
        about: What it measures, in a few words.
    """

    name: ClassVar[str]
    about: ClassVar[str]

    @abstractmethod
    def open(self, path: Path, model: PerceptionModel) -> SuiteData:
        """Open the data at a path, with the questions for a model.

        Raises:
            DataError: The data do not exist, or do not have the suite's layout.
            InputError: The model lacks what the suite needs.
        """

    @abstractmethod
    def asking(self, model: PerceptionModel, data: SuiteData) -> Pass:
        """Return the pass that asks a model about the data; it keeps what `figures` needs of a reply.

        Raises:
            InputError: The model lacks what the suite needs.
        """

    @abstractmethod
    def figures(self, answers: Iterable[ScoredAnswer]) -> dict[str, Any]:
        """Return the figures of the answers to all questions of some data."""


def hash_of(data: SuiteData, count: int) -> str:
    """Return a SHA-256 of the first images of some data, their questions, and the ground truth for the answers.

    The location of the data does not count.

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
