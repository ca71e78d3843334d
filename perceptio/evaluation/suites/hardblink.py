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
"""The tasks of questions whose points are known, and of those whose points only the picture shows."""


@attrs.frozen(kw_only=True)
class HardBLINK(Suite):
    """The published folder, on whose pictures points are drawn, or what it was imported as; or other marked points.

    Where the points of the published pictures lie is nowhere written: a model that is told of points by tokens, or
    that looks them up, has only the picture to go by there. Questions of a data folder are asked as in training.

    Attributes:
        instruction: A line after each published question, such as "Answer with the letter of the point."
        max_new_tokens: Most tokens of an answer to a published question.
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
        """The questions about each picture of a folder that `perceptio data import marked-points` made."""
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
        """See `Suite.asking`: what the model was trained to perceive before such answers, it perceives."""
        known = task_data(model, data.units)
        if isinstance(data, MarkedFolder):
            return TaskTable(model.recipe)[TASK].passes(TASK, known)[0]
        return Choices(TASK, known.perceives, force=True, max_new_tokens=self.max_new_tokens)

    def figures(self, answers: Iterable[ScoredAnswer]) -> dict[str, Any]:
        """See `score_hardblink`; of a model that writes a depth map first also `readout`, the nearest on the map."""
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
    """Accuracies by number of points, and their mean.

    Args:
        answers: How many points were marked, the letter that was chosen, `""` where none could be read, and the right
            one.

    Returns:
        Of each number of points what `score_choices` says; `mean`, the mean of their accuracies, as published tables
        have it; Wilson's 95% `interval` of all questions together; `count` and `unparsed`.
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
