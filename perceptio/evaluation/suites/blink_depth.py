"""BLINK's Relative_Depth (arXiv 2404.12390): which of two circled points is closer to the camera."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import attrs

from perceptio.errors import DataError, quoted
from perceptio.evaluation.answers import ScoredAnswer
from perceptio.evaluation.asking import task_data
from perceptio.evaluation.suites.choices import ChoiceData, Choices, question_of
from perceptio.evaluation.suites.suite import Suite, SuiteData
from perceptio.evaluation.suites.tables import SUFFIXES, files_named, open_table
from perceptio.interfaces import Pass
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.choice_metrics import score_choices
from perceptio.ops.letters import parse_letter

SUB_TASK = "Relative_Depth"
HIDDEN = "hidden"
"""Placeholder for the answers of the test split."""
COLUMNS = ("idx", "question", "choices", "answer")


@attrs.frozen(kw_only=True)
class BLINKDepth(Suite):
    """The files of BLINK-Benchmark/BLINK on the hub, or an export: one question per row, with image `image_1`.

    Attributes:
        split: The split whose files to read in a folder.
        instruction: A line that is added to each question.
        max_new_tokens: Maximum number of tokens of an answer.
    """

    name: ClassVar[str] = "blink-depth"
    about: ClassVar[str] = "BLINK's relative depth, the closer of two points: accuracy"

    split: str = "val"
    instruction: str = ""
    max_new_tokens: int = 16

    def open(self, path: Path, model: PerceptionModel) -> SuiteData:
        """See `Suite.open`."""
        folder = path / SUB_TASK if (path / SUB_TASK).is_dir() else path
        files = files_named(folder, *(f"{self.split}*{suffix}" for suffix in reversed(SUFFIXES)))
        if not files:
            there = files_named(folder, *(f"*{suffix}" for suffix in reversed(SUFFIXES)))
            others = ", ".join(dict.fromkeys(file.stem.partition("-")[0] for file in there)) or "none"
            raise DataError(
                f"{folder} has no file of the split {self.split!r}, such as {self.split}-00000-of-00001.parquet (of "
                f"others: {others}): fetch the folder {SUB_TASK} of BLINK-Benchmark/BLINK, or name an export of it."
            )
        questions = []
        for file in files:
            table = open_table(file, COLUMNS, "image_")
            for number, row in enumerate(table.rows):
                where = f"{file} row {number + 1} ({quoted(row['idx'])})"
                if row["answer"] == HIDDEN:
                    raise DataError(
                        f"{where} has no answer, as those of the test split are not published: use val."
                    )
                if row.get("sub_task", SUB_TASK) != SUB_TASK:
                    raise DataError(
                        f"{where} is of the sub-task {quoted(row['sub_task'])}: name one of {SUB_TASK}."
                    )
                one = question_of(row, str(row["idx"]), SUB_TASK, where, self.instruction)
                questions.append((partial(table.picture, number, "image_1"), one))
        return ChoiceData(path, questions, lambda picture: picture())

    def asking(self, model: PerceptionModel, data: SuiteData) -> Pass:
        """See `Suite.asking`: the model perceives what it was trained to perceive before such answers."""
        perceives = task_data(model, data.units).perceives
        return Choices(self.name, perceives, force=True, max_new_tokens=self.max_new_tokens)

    def figures(self, answers: Iterable[ScoredAnswer]) -> dict[str, Any]:
        """See `score_choices`."""
        return score_choices((one.scored[self.name]["letter"], parse_letter(one.answer)) for one in answers)
