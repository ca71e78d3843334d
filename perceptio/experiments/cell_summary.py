"""Summaries of cells: the results of one cell in a small file that can be committed beside its experiment.

The folder `NAME.cells` beside `NAME.py` has one file for each summarized cell. The file's name is a hash of what
identifies the cell, so whoever has the same data need not run it again. Its content suffices for the tables, paired
differences and page of an experiment.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import DataError
from perceptio.evaluation.answers import AskedQuestion
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import format_json, read_json
from perceptio.recipe_changes import changes

FORMAT = 1
SUFFIX = ".cells"
"""Suffix of the folder beside an experiment's file."""
RIGHT, WRONG, NOT_ASKED = "1", "0", "-"


@attrs.frozen(kw_only=True)
class Marks:
    """Which questions were answered right, without their words.

    Attributes:
        questions: The id of each question; see `AskedQuestion`.
        num_points: Number of marked points of each question.
        right: By scored figure, a character for each question: 1 right, 0 wrong, - not asked.
    """

    questions: tuple[str, ...] = ()
    num_points: tuple[int, ...] = ()
    right: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, right: Mapping[str, Mapping[AskedQuestion, bool]]) -> "Marks":
        """Return the marks of answers, given which were right by scored figure."""
        asked = list(dict.fromkeys(question for one in right.values() for question in one))
        letter = {True: RIGHT, False: WRONG, None: NOT_ASKED}
        return cls(
            questions=tuple(question.id for question in asked),
            num_points=tuple(question.num_points for question in asked),
            right={
                scored: "".join(letter[one.get(question)] for question in asked)
                for scored, one in right.items()
            },
        )

    def by_question(self) -> dict[str, dict[AskedQuestion, bool]]:
        """Return whether each question was answered right, by scored figure."""
        asked = [
            AskedQuestion(id=one, num_points=points, description=f"that of the id {one}")
            for one, points in zip(self.questions, self.num_points, strict=True)
        ]
        return {
            scored: {
                question: letter == RIGHT
                for question, letter in zip(asked, letters, strict=True)
                if letter != NOT_ASKED
            }
            for scored, letters in self.right.items()
        }


@attrs.frozen(kw_only=True)
class CellSummary:
    """The results of a cell.

    Attributes:
        variant: The name of its variant when it was run.
        seed: Its seed.
        cell: The fingerprint of its recipe, seed and data.
        data: A hash of the content of each folder that it was evaluated on.
        controls: The controls of its evaluation.
        recipe: The JSON document of its recipe, with the defaults at that time.
        figures: The figures of its evaluation; see `CellResult.figures`.
        marks: Which questions were answered right.
        curve: Its learning curve: for each metric, one value for each entry of `step`; None for a missing value.
        seconds: Duration of its training and evaluation; None: not known.
        parameters: Number of parameters of the model.
        device: The device that it was evaluated on; None: not known.
        versions: Versions of perceptio and of the libraries that computed it.
    """

    variant: str
    seed: int
    cell: str
    data: tuple[str, ...]
    controls: tuple[str, ...]
    recipe: Mapping[str, Any]
    figures: Mapping[str, Any]
    marks: Marks
    curve: Mapping[str, Sequence[float | None]]
    seconds: float | None
    parameters: int | None
    device: str | None
    versions: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of its file, without `.json`."""
        return summary_name(self.cell, self.data)

    def serves(self, controls: Collection[str]) -> bool:
        """Return whether it has all results of an evaluation with these controls."""
        return set(controls) <= set(self.controls)

    def changed_defaults(self, recipe: Mapping[str, Any], defaults: Collection[str]) -> Iterator[str]:
        """Yield settings left at their default, then and now, whose default changed, each as the end of a sentence.

        Args:
            recipe: The current JSON document of the cell's recipe.
            defaults: The paths of its settings at their declared default; see `Job.defaults`.
        """
        for one in changes(self.recipe, recipe):
            left_alone = any(path == one.path or path.startswith(f"{one.path}.") for path in defaults)
            if left_alone and one.first is not None and one.second is not None:
                yield f"{one.path} was {one.first} and is {one.second}"


def summary_name(cell: str, data: Sequence[str]) -> str:
    """Return the name of a cell's summary, from the fingerprints of the cell and of its evaluation data."""
    return hashlib.sha256(json.dumps([cell, list(data)]).encode()).hexdigest()[:16]


def write_summary(folder: Path, summary: CellSummary) -> Path:
    """Write a summary into a folder of summaries, one line for each part; return the file.

    Raises:
        DataError: The file cannot be written.
    """
    parts = {"format": FORMAT, **attrs.asdict(summary)}
    lines = ",\n".join(
        f"{format_json(name).strip()}: {format_json(part).strip()}" for name, part in parts.items()
    )
    path = folder / f"{summary.name}.json"
    with disk_errors(path, DataError), new_file(path) as new:
        new.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return path


def read_summary(path: Path) -> CellSummary:
    """Read the summary in a file.

    Raises:
        DataError: The file is missing or has another form; the message says what to do.
    """
    remedy = "take it from where it came again, or leave it with --rerun, which runs the cell"
    held = read_json(path, remedy=remedy)
    with parsing(DataError, f"{path} is no summary of a cell ({{reason}}): {remedy}."):
        if held.pop("format") != FORMAT:
            raise ValueError("it is of another format")
        marks = Marks(**{name: _tuple(value) for name, value in held["marks"].items()})
        marks.by_question()
        lists = {name: tuple(held[name]) for name in ("data", "controls")}
        summary = CellSummary(**{**held, **lists, "marks": marks})
        for name in ("recipe", "figures", "curve", "versions"):
            if not isinstance(held[name], dict):
                raise TypeError(f"{name} is of type {type(held[name]).__name__}")
        if len({len(values) for values in summary.curve.values()}) > 1:
            raise ValueError("its curve has metrics of several lengths")
        if summary.name != path.stem:
            raise ValueError(f"what it holds is that of {summary.name}")
    return summary


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
