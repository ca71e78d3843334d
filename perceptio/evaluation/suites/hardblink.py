"""HardBLINK (AURORA, arXiv 2412.03548): which of three, four or five marked points is closest to the camera."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from perceptio.data.folder import FolderDataset
from perceptio.data.hardblink import hardblink_questions
from perceptio.data.tasks import TaskTable
from perceptio.errors import DataError
from perceptio.evaluation.answers import ScoredAnswer
from perceptio.evaluation.asking import task_data
from perceptio.evaluation.suites.choices import ChoiceData, ChoiceQuestion, Choices, with_instruction
from perceptio.evaluation.suites.folders import FolderData, is_data_folder
from perceptio.evaluation.suites.suite import Suite, SuiteData
from perceptio.interfaces import LETTERS, Pass
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.choice_metrics import score_choices
from perceptio.ops.image_files import read_image
from perceptio.ops.intervals import wilson
from perceptio.ops.letters import parse_letter

TASK = "relative_depth"


@attrs.frozen(kw_only=True)
class HardBLINK(Suite):
    """The published folder, on whose pictures points are drawn; or a data folder with marked points.

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
            data = MarkedFolder.of_task(FolderDataset(path), TASK)
            if not len(data):
                raise DataError(
                    f"{path} has no question of the task {TASK!r}, which marks points: of HardBLINK itself, name the "
                    "published folder."
                )
            return data
        questions = [
            (
                one.picture,
                ChoiceQuestion(
                    name=f"{one.set}/{one.id}",
                    task=TASK,
                    question=with_instruction(one.question, self.instruction),
                    choices=tuple(LETTERS[: one.points]),
                    answer=one.answer.strip("()"),
                    labels={"points": one.points},
                ),
            )
            for one in hardblink_questions(path)
        ]
        return ChoiceData(path, questions, read_image)

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


def _chosen(answers: Iterable[ScoredAnswer], figure: str) -> Iterable[tuple[int, str, str]]:
    for one in answers:
        kept = one.scored[figure]
        yield kept["points"], kept["letter"], parse_letter(one.answer)
