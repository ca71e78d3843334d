"""CV-Bench (Cambrian-1, arXiv 2406.16860): counting, spatial relations, depth order and relative distance."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import attrs

from perceptio.errors import DataError, quoted
from perceptio.evaluation.answers import ScoredAnswer
from perceptio.evaluation.asking import task_data
from perceptio.evaluation.suites.choices import ChoiceData, Choices, question_of
from perceptio.evaluation.suites.suite import Suite, SuiteData
from perceptio.evaluation.suites.tables import Table, files_named, open_table
from perceptio.interfaces import Pass
from perceptio.model.perception_model import PerceptionModel
from perceptio.ops.choice_metrics import score_choices
from perceptio.ops.held_files import AnyFile
from perceptio.ops.letters import parse_letter

PICTURES = "img"
COLUMNS = ("idx", "task", "question", "choices", "answer", "source", "filename")
FLAT, DEEP = ("ADE20K", "COCO"), "Omni3D"
"""The sources of two-dimensional questions, and the source of three-dimensional ones."""


@attrs.frozen(kw_only=True)
class CVBench(Suite):
    """The files of nyu-visionx/CV-Bench: `test_2d` and `test_3d`, as JSON lines beside `img/`, or as parquet.

    Attributes:
        instruction: A line that is added to each question, such as "Answer with the option's letter from the given
            choices directly.", which other evaluations use.
        max_new_tokens: Maximum number of tokens of an answer.
    """

    name: ClassVar[str] = "cv-bench"
    about: ClassVar[str] = "CV-Bench: accuracies by task and source, 2D, 3D and together"

    instruction: str = ""
    max_new_tokens: int = 16

    def open(self, path: Path, model: PerceptionModel) -> SuiteData:
        """See `Suite.open`."""
        patterns = ("test*.jsonl", "test*.parquet")
        with_pictures = (path / PICTURES).is_dir()
        files = files_named(path, *(patterns if with_pictures else reversed(patterns)))
        if not files:
            raise DataError(
                f"{path} has neither test_2d.jsonl nor test_2d.parquet: fetch the files of nyu-visionx/CV-Bench."
            )
        questions, first = [], dict[str, tuple[Table, int]]()
        for file in files:
            table = open_table(file, COLUMNS, "image")
            for number, row in enumerate(table.rows):
                where = f"{file} row {number + 1} (idx {quoted(row['idx'])})"
                if not isinstance(row["filename"], str):
                    raise DataError(f"{where} names the picture {quoted(row['filename'])}, which is no path.")
                one = question_of(row, str(row["idx"]), str(row["task"]), where, self.instruction)
                labels = {"task": str(row["task"]), "source": str(row["source"])}
                first.setdefault(row["filename"], (table, number))
                questions.append((row["filename"], attrs.evolve(one, labels=labels)))

        def picture(filename: str) -> AnyFile:
            table, number = first[filename]
            return table.picture(number, "image" if table.file.suffix == ".parquet" else "filename")

        return ChoiceData(path, questions, picture)

    def asking(self, model: PerceptionModel, data: SuiteData) -> Pass:
        """See `Suite.asking`: the model may perceive before it answers, if it was trained to."""
        perceives = task_data(model, data.units).perceives
        return Choices(self.name, perceives, force=False, max_new_tokens=self.max_new_tokens)

    def figures(self, answers: Iterable[ScoredAnswer]) -> dict[str, Any]:
        """See `score_cv_bench`."""
        kept = ((one.scored[self.name], parse_letter(one.answer)) for one in answers)
        return score_cv_bench((one["task"], one["source"], one["letter"], right) for one, right in kept)


def score_cv_bench(answers: Iterable[tuple[str, str, str, str]]) -> dict[str, Any]:
    """Return accuracies as the authors define them.

    Args:
        answers: The task, the source, the chosen letter (`""`: none), and the right one.

    Returns:
        The figures of `score_choices` for each of `tasks` and `sources`; `2d`, the mean of the accuracies of ADE20K
        and COCO; `3d`, that of Omni3D; `accuracy`, the mean of the two; each of the three only if all of its sources
        were asked; `count` and `unparsed`.
    """
    tasks: dict[str, list[tuple[str, str]]] = {}
    sources: dict[str, list[tuple[str, str]]] = {}
    for task, source, chosen, right in answers:
        tasks.setdefault(task, []).append((chosen, right))
        sources.setdefault(source, []).append((chosen, right))
    by_source = {source: score_choices(sources[source]) for source in sorted(sources)}
    figures: dict[str, Any] = {}
    if set(FLAT) <= by_source.keys():
        figures["2d"] = sum(by_source[source]["accuracy"] for source in FLAT) / len(FLAT)
    if DEEP in by_source:
        figures["3d"] = by_source[DEEP]["accuracy"]
    if len(figures) == 2:
        figures["accuracy"] = (figures["2d"] + figures["3d"]) / 2
    return figures | {
        "tasks": {task: score_choices(tasks[task]) for task in sorted(tasks)},
        "sources": by_source,
        "count": sum(one["count"] for one in by_source.values()),
        "unparsed": sum(one["unparsed"] for one in by_source.values()),
    }
