"""HardBLINK (AURORA, arXiv 2412.03548): which of three, four or five marked points is closest to the camera."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import attrs

from perceptio.data.folder import FolderDataset
from perceptio.data.hardblink import hardblink_questions
from perceptio.data.tasks import TaskTable
from perceptio.errors import DataError, quoted
from perceptio.evaluation.answers import ScoredAnswer
from perceptio.evaluation.asking import task_data
from perceptio.evaluation.suites.choices import ChoiceData, ChoiceQuestion, Choices, with_instruction
from perceptio.evaluation.suites.folders import FolderData, is_data_folder
from perceptio.evaluation.suites.suite import Suite, SuiteData
from perceptio.interfaces import LETTERS, Pass
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.choice_metrics import score_choices
from perceptio.ops.held_files import AnyFile
from perceptio.ops.intervals import wilson
from perceptio.ops.letters import parse_letter

TASK, DRAWN = "relative_depth", "drawn_points"
"""The task of questions whose points are known, and that of questions whose points only the image shows."""


@attrs.frozen(kw_only=True)
class HardBLINK(Suite):
    """The published folder, whose images show drawn points; a data folder imported from it; or other marked points.

    The coordinates of the points in the published images are not available. A model that receives points as tokens,
    or looks them up, has only the image to go by. Questions of other data folders are asked as in training.

    Attributes:
        instruction: A line that is added to each published question, such as "Answer with the letter of the point."
        max_new_tokens: Maximum number of tokens of an answer to a published question.
    """

    name: ClassVar[str] = "hardblink"
    about: ClassVar[str] = "the closest of 3, 4 or 5 marked points: accuracy, and its mean"

    instruction: str = ""
    max_new_tokens: int = 16

    def open(self, path: Path, model: PerceptionModel) -> SuiteData:
        """See `Suite.open`."""
        if is_data_folder(path):
            dataset = FolderDataset(path)
            if any(DRAWN in tasks for tasks in dataset.tasks):
                return ChoiceData(path, list(self._imported(dataset)), partial(_picture, dataset))
            data = MarkedFolder.of_task(dataset, TASK)
            if not len(data):
                raise DataError(
                    f"{path} has no question of the task {TASK!r}, nor of {DRAWN!r}, about marked points."
                )
            return data
        questions = [
            (one.picture, self._question(f"{one.set}/{one.id}", one.points, one.question, one.answer))
            for one in hardblink_questions(path)
        ]
        return ChoiceData(path, questions, lambda picture: picture)

    def _imported(self, dataset: FolderDataset) -> Iterator[tuple[int, ChoiceQuestion]]:
        """Yield the questions about each image of a folder made by `perceptio data import marked-points`."""
        for number, tasks in enumerate(dataset.tasks):
            if DRAWN in tasks:
                name = dataset.records[number].id
                told = re.match(r"(\d+)points", name)
                if told is None:
                    raise DataError(
                        f"{dataset.name} does not say how many points the picture {quoted(name)} shows, as names "
                        "such as 3pointscenter-0 do: name the published folder instead."
                    )
                drawn = [turn for turn in dataset.turns(number) if turn.task == DRAWN]
                for place, turn in enumerate(drawn):
                    called = f"{name}/{place}" if place else name
                    yield number, self._question(called, int(told[1]), turn.question, turn.answer)

    def _question(self, name: str, points: int, question: str, answer: str) -> ChoiceQuestion:
        return ChoiceQuestion(
            name=name,
            task=DRAWN,
            question=with_instruction(question, self.instruction),
            choices=tuple(LETTERS[:points]),
            answer=parse_letter(answer),
            labels={"points": points},
        )

    def asking(self, model: PerceptionModel, data: SuiteData) -> Pass:
        """See `Suite.asking`: the model perceives what it was trained to perceive before such answers."""
        known = task_data(model, data.units)
        if isinstance(data, MarkedFolder):
            return TaskTable(model.recipe)[TASK].passes(TASK, known)[0]
        return Choices(TASK, known.perceives, force=True, max_new_tokens=self.max_new_tokens)

    def figures(self, answers: Iterable[ScoredAnswer]) -> dict[str, Any]:
        """See `score_hardblink`; if the model writes a depth map first also `readout`, the nearest on the map."""
        kept = list(answers)
        found = score_hardblink(_chosen(kept, TASK))
        readout = f"{TASK}_readout"
        read = [one for one in kept if readout in one.scored]
        return found | ({"readout": score_hardblink(_chosen(read, readout))} if read else {})


class MarkedFolder(FolderData):
    """The marked-point questions of a data folder."""

    def labels(self, number: int, place: int) -> Mapping[str, Any]:
        """See `SuiteData.labels`."""
        return {"points": len(self.turns(number)[place].points)}


def score_hardblink(answers: Iterable[tuple[int, str, str]]) -> dict[str, Any]:
    """Return accuracies by number of points, and their mean.

    Args:
        answers: The number of marked points, the chosen letter (`""`: none could be parsed), and the right one.

    Returns:
        The figures of `score_choices` for each number of points; `mean`, the mean of their accuracies, as in
        published tables; Wilson's 95% `interval` over all questions; `count` and `unparsed`.
    """
    by_points: dict[int, list[tuple[str, str]]] = {}
    for points, chosen, right in answers:
        by_points.setdefault(points, []).append((chosen, right))
    sets = {str(points): score_choices(by_points[points]) for points in sorted(by_points)}
    together = [pair for pairs in by_points.values() for pair in pairs]
    return sets | {
        "mean": sum(one["accuracy"] for one in sets.values()) / len(sets) if sets else float("nan"),
        "interval": list(wilson(sum(chosen == right for chosen, right in together), len(together))),
        "count": len(together),
        "unparsed": sum(one["unparsed"] for one in sets.values()),
    }


def _picture(dataset: FolderDataset, number: int) -> AnyFile:
    image = dataset.records[number].image
    assert image is not None, "What is asked of drawn points is asked of a picture."
    return dataset.files.found(image)


def _chosen(answers: Iterable[ScoredAnswer], figure: str) -> Iterable[tuple[int, str, str]]:
    for one in answers:
        kept = one.scored[figure]
        yield kept["points"], kept["letter"], parse_letter(one.answer)
