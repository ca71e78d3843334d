"""HardBLINK's published layout."""

import json

import pytest
from benchmark_files import ASKED, hardblink

from perceptio.data.hardblink import hardblink_questions
from perceptio.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return hardblink(tmp_path / "hardblink")


def test_questions_come_by_number_of_points_with_their_answers(folder):
    questions = list(hardblink_questions(folder))
    assert [(one.set, one.points, one.id, one.answer) for one in questions][2:5] == [
        ("3pointscenter", 3, "2", "(C)"),
        ("4pointscenter", 4, "0", "(A)"),
        ("4pointscenter", 4, "1", "(B)"),
    ]
    assert len(questions) == 9 and {one.question for one in questions} == {ASKED}
    assert questions[4].picture == folder / "images" / "blink4pointscenter" / "1.png"


def changed(folder, file, change):
    path = folder / file
    path.write_text(change(path.read_text()))


QUESTIONS, ANSWERS = (
    "questions/blink_3pointscenter_questions.jsonl",
    "answers/blink_3pointscenter_answers.jsonl",
)


def without_last(text):
    return "".join(text.splitlines(keepends=True)[:-1])


def in_last(**values):
    def change(text):
        *before, last = text.splitlines()
        return "\n".join([*before, json.dumps(json.loads(last) | values)]) + "\n"

    return change


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (ANSWERS, without_last, r"has 3 questions and .* 2 answers, and question_id 2 is only in the first"),
        (
            QUESTIONS,
            without_last,
            r"has 2 questions and .* 3 answers, and question_id 2 is only in the second",
        ),
        (
            ANSWERS,
            lambda text: text[:-10],
            r"line 3 is not JSON \(.*\): it is cut short or damaged; fetch it",
        ),
        (
            ANSWERS,
            in_last(text="(D)"),
            r"question 2 with '\(D\)', which is not the letter of one of 3 points",
        ),
        (ANSWERS, in_last(question_id=1), r"line 3 has the question_id 1 again"),
        (QUESTIONS, in_last(text=5), r"line 3 is .*; it needs question_id, image and text"),
        (QUESTIONS, in_last(text=" "), r"line 3 is .*; it needs question_id, image and text"),
        (QUESTIONS, in_last(image="../0.png"), r"'\.\./0\.png' of question 2, which must be a path inside"),
        (
            QUESTIONS,
            in_last(image="9.png"),
            r"'9\.png' of question 2, which is not in .*center: fetch it",
        ),
    ],
)
def test_what_is_wrong_is_named(folder, file, change, message):
    changed(folder, file, change)
    with pytest.raises(DataError, match=message):
        list(hardblink_questions(folder))


def test_a_file_that_is_not_there_and_another_layout(folder, tmp_path):
    (folder / ANSWERS).unlink()
    with pytest.raises(DataError, match=r"blink_3pointscenter_answers\.jsonl is not there: fetch it again"):
        list(hardblink_questions(folder))
    with pytest.raises(
        DataError, match=r"not of HardBLINK's layout: it has no questions/blink_3pointscenter"
    ):
        list(hardblink_questions(tmp_path))
