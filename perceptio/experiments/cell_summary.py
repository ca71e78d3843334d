"""Summaries of cells: what one has found, in one small file that can be committed beside its experiment.

`NAME.cells` lies beside `NAME.py` and has a file for each cell that is summarized. What that is called is a hash of
what tells the cell from others, so that whoever has the same data need not run it again; what it holds is enough for
an experiment's tables, its paired differences and its page.
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
"""Of the folder beside an experiment's file."""
RIGHT, WRONG, NOT_ASKED = "1", "0", "-"


@attrs.frozen(kw_only=True)
class Marks:
    """Which questions were answered right, without their words.

    Attributes:
        questions: The id of each question; see `AskedQuestion`.
        num_points: How many points each marks.
        right: By what the answers are scored as, a character for each question: 1 right, 0 wrong, - not asked.
    """

    questions: tuple[str, ...] = ()
    num_points: tuple[int, ...] = ()
    right: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, right: Mapping[str, Mapping[AskedQuestion, bool]]) -> "Marks":
        """Those of answers, by what they are scored as."""
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
        """Whether each question was answered right, by what the answers are scored as."""
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
    """What a cell has found.

    Attributes:
        variant: What its variant was called when it was run.
        seed: Its seed.
        cell: The fingerprint of its recipe, seed and data.
        data: A hash of what each folder holds that it was evaluated on.
        controls: What else was put in place of what was written.
        recipe: Its recipe's document, with the defaults that it had.
        figures: What its evaluation found; see `CellResult.figures`.
        marks: Which questions were answered right.
        curve: Its learning curve, by metric a value for each of its `step`; None where there was none.
        seconds: Of its training and evaluation; None: not known.
        parameters: How many the model has.
        device: What it was evaluated on; None: not known.
        versions: Of perceptio, and of what computed, then.
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
        """What its file is called, but for `.json`."""
        return summary_name(self.cell, self.data)

    def serves(self, controls: Collection[str]) -> bool:
        """Whether it has everything that an evaluation with these controls would find."""
        return set(controls) <= set(self.controls)

    def changed_defaults(self, recipe: Mapping[str, Any], defaults: Collection[str]) -> Iterator[str]:
        """The settings that were left alone, then as now, and had other defaults, each as the end of a sentence.

        Args:
            recipe: The cell's recipe's document as it is now.
            defaults: The paths of its settings at their declared default; see `Job.defaults`.
        """
        for one in changes(self.recipe, recipe):
            left_alone = any(path == one.path or path.startswith(f"{one.path}.") for path in defaults)
            if left_alone and one.first is not None and one.second is not None:
                yield f"{one.path} was {one.first} and is {one.second}"


def summary_name(cell: str, data: Sequence[str]) -> str:
    """What the summary of a cell is called, from its fingerprint and that of the data that it is evaluated on."""
    return hashlib.sha256(json.dumps([cell, list(data)]).encode()).hexdigest()[:16]


def write_summary(folder: Path, summary: CellSummary) -> Path:
    """Write a summary into a folder of such, a line for each of its parts; the file.

    Raises:
        DataError: The disk refuses.
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
    """The summary in a file.

    Raises:
        DataError: It is missing, or of another form; the message says what to do.
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
