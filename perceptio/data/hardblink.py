"""HardBLINK as published by AURORA: images with three, four or five lettered circles, and one question about each.

The layout of its repository (mahtabbigverdi/Aurora-perception, `Data/evals/hardblink`), for each set, such as
`3pointscenter`:

    questions/blink_3pointscenter_questions.jsonl    {"question_id": 0, "image": "0.png", "text": "Multiple points …"}
    answers/blink_3pointscenter_answers.jsonl        {"question_id": 0, "text": "(A)"}
    images/blink3pointscenter/                       images; the coordinates of the circles are not published
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import DataError, quoted
from perceptio.interfaces import LETTERS
from perceptio.ops.json_files import InvalidJSONError, parse_json, read_lines
from perceptio.ops.paths import why_not_inside
from perceptio.ops.wording import number_of

_QUESTIONS = re.compile(r"blink_((\d+)points\w*)_questions\.jsonl")


@attrs.frozen(kw_only=True)
class HardBLINKQuestion:
    """A question.

    Attributes:
        set: Its set, such as `"3pointscenter"`.
        points: Number of circled points.
        id: Its number in the set.
        picture: The image, on which the points are drawn.
        question: The text of the question.
        answer: The letter of the nearest point in parentheses, such as `"(A)"`.
    """

    set: str
    points: int
    id: str
    picture: Path
    question: str
    answer: str


def hardblink_questions(folder: Path) -> Iterator[HardBLINKQuestion]:
    """Yield the questions of all sets, by number of points and in the order of the files.

    Raises:
        DataError: The folder has another layout; a line has the wrong form or a repeated id; there are fewer or more
            answers than questions; an answer is not the letter of a point; or an image is missing.
    """
    sets = sorted(
        (int(named[2]), named[1], file)
        for file in _question_files(folder)
        if (named := _QUESTIONS.fullmatch(file.name))
    )
    if not sets:
        raise DataError(
            f"{folder} is not of HardBLINK's layout: it has no questions/blink_3pointscenter_questions.jsonl, nor of "
            "another number of points; name the folder Data/evals/hardblink of AURORA's repository."
        )
    for points, name, file in sets:
        answers_file = folder / "answers" / f"blink_{name}_answers.jsonl"
        questions, answers = _by_id(file, ("image", "text")), _by_id(answers_file, ("text",))
        _check_same(file, questions, answers_file, answers)
        for number, row in questions.items():
            answer = answers[number]["text"].strip()
            if answer not in [f"({letter})" for letter in LETTERS[:points]]:
                raise DataError(
                    f"{answers_file} answers question {number} with {quoted(answer)}, which is not the letter of one "
                    f"of {points} points, such as (A)."
                )
            pictures = folder / "images" / f"blink{name}"
            reason, picture = why_not_inside(row["image"]), pictures / row["image"]
            if reason is None and not picture.is_file():
                reason = f"is not in {pictures}: fetch it again"
            if reason is not None:
                raise DataError(
                    f"{file} names the picture {quoted(row['image'])} of question {number}, which {reason}."
                )
            yield HardBLINKQuestion(
                set=name, points=points, id=number, picture=picture, question=row["text"], answer=answer
            )


def _question_files(folder: Path) -> list[Path]:
    place = folder / "questions"
    return sorted(place.iterdir()) if place.is_dir() else []


def _by_id(file: Path, texts: tuple[str, ...]) -> dict[str, Mapping[str, Any]]:
    """Return the lines of a file by `question_id`, in order."""
    if not file.is_file():
        raise DataError(f"{file} is not there: fetch it again.")
    rows: dict[str, Mapping[str, Any]] = {}
    for line in read_lines(file):
        try:
            row = parse_json(line.text)
        except InvalidJSONError as problem:
            raise DataError(
                f"{file} line {line.number} is not JSON ({problem}): it is cut short or damaged; fetch it again."
            ) from problem
        known = isinstance(row, dict) and isinstance(row.get("question_id"), int | str)
        if not known or not all(isinstance(row.get(name), str) and row[name].strip() for name in texts):
            raise DataError(
                f"{file} line {line.number} is {quoted(row)}; it needs question_id, {' and '.join(texts)}."
            )
        if str(row["question_id"]) in rows:
            raise DataError(f"{file} line {line.number} has the question_id {row['question_id']} again.")
        rows[str(row["question_id"])] = row
    return rows


def _check_same(
    file: Path, questions: Mapping[str, Any], answers_file: Path, answers: Mapping[str, Any]
) -> None:
    alone = sorted(questions.keys() ^ answers.keys())
    if alone:
        raise DataError(
            f"{file} has {number_of(len(questions), 'question')} and {answers_file} "
            f"{number_of(len(answers), 'answer')}, and question_id {alone[0]} "
            f"is only in {'the first' if alone[0] in questions else 'the second'}: fetch both again."
        )
