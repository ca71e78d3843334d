"""The file of answers: written whole or not at all, read back as it was, and paired question by question."""

import json

import attrs
import pytest

from perceptio.errors import DataError
from perceptio.evaluation.answers import (
    ANSWERS,
    ScoredAnswer,
    paired,
    read_answers,
    right_by_question,
    right_or_wrong,
    writing_answers,
)


def answer(sample="kitchen", right=True, figure="relative_depth", **changes):
    given = {
        "data": "data/test",
        "sample": sample,
        "task": "relative_depth",
        "question": "Closest?",
        "points": ((0.25, 0.5), (0.7, 0.1)),
        "answer": "(B)",
        "reply": "(B)" if right else "(A)",
        "scored": {figure: {"right": right, "letter": "B" if right else "A"}},
    }
    return ScoredAnswer(**given | changes)


def write(folder, answers, **settings):
    with writing_answers(folder / ANSWERS, **settings) as keep:
        for one in answers:
            keep(one)


def test_answers_come_back_as_they_were_written(tmp_path):
    first = answer(reply="“B”,\nof course")
    unknown = answer(scored={"edges_map": {"error": [float("nan"), 0.5]}}, points=())
    write(tmp_path, [first])
    write(tmp_path, [unknown], append=True)
    known = attrs.evolve(unknown, scored={"edges_map": {"error": [None, 0.5]}})
    assert read_answers(tmp_path) == [first, known]
    write(tmp_path, [unknown])
    assert read_answers(tmp_path) == [known]


def test_an_evaluation_that_ends_early_leaves_what_was_there(tmp_path):
    write(tmp_path, [answer()])
    with pytest.raises(KeyboardInterrupt), writing_answers(tmp_path / ANSWERS) as keep:
        keep(answer("bath"))
        raise KeyboardInterrupt
    assert read_answers(tmp_path) == [answer()] and len(list(tmp_path.iterdir())) == 1
    message = r"^The answer '\(B\)' to 'Closest\?' of the sample 'bath' cannot be written to .*look at what the task"
    with pytest.raises(DataError, match=message):
        write(tmp_path, [answer("bath", scored={"mine": {"count": 2**70}})])
    assert read_answers(tmp_path) == [answer()]


LINE = json.loads(json.dumps(attrs.asdict(answer())))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 1 is not an answer of an evaluation \(.*\): run `perceptio eval` again"),
        ("3", r"line 1 is not an answer .*it needs data, sample, .*, and is 3"),
        (json.dumps({"data": "x"}), r"it needs data, sample, .*, and is \{'data': 'x'\}"),
        (json.dumps(LINE | {"reply": 3}), "something in .* is not text"),
        (json.dumps(LINE | {"scored": {"right": True}}), r"scored is \{'right': True\}"),
        (json.dumps(LINE | {"points": [[1, 2, 3]]}), "too many values to unpack"),
        (json.dumps(LINE | {"points": 3}), "not iterable"),
    ],
)
def test_a_line_that_is_no_answer_is_refused(tmp_path, line, message):
    (tmp_path / ANSWERS).write_text(f"{line}\n")
    with pytest.raises(DataError, match=message):
        read_answers(tmp_path)


def test_a_folder_without_answers_says_so(tmp_path):
    with pytest.raises(
        DataError, match=r"has no answers\.jsonl: run `perceptio eval` again, which writes it"
    ):
        read_answers(tmp_path)


def both(first, second, figure="relative_depth"):
    return paired(right_by_question(first, figure), right_by_question(second, figure), figure)


def test_answers_are_paired_by_their_questions_wherever_the_data_lie():
    first = [answer("a", True), answer("b", False), answer("b", True), answer("c", True, "referring")]
    second = [answer("b", True, data="moved"), answer("b", False), answer("a", False, data="moved")]
    pairs = both(first, second)
    assert list(pairs.values()) == [(True, False), (False, True), (True, False)]
    assert [question.num_points for question in pairs] == [2, 2, 2]
    assert right_or_wrong([*first, answer(scored={"edges_map": {"error": 0.5}})]) == [
        "relative_depth",
        "referring",
    ]


def test_other_questions_are_named():
    first, second = [answer("a"), answer("b")], [answer("a"), answer("b", question="Farthest?", points=())]
    message = (
        r"not asked the same questions of 'relative_depth': of 1 only the first was asked, such as 'Closest\?' with "
        r"2 points of the sample 'b', whose answer is '\(B\)'; of 1 only the second was asked, such as 'Farthest\?'"
    )
    with pytest.raises(DataError, match=message):
        both(first, second)
    with pytest.raises(
        DataError, match="of 1 only the first was asked.*Evaluate both on the same data, with the same"
    ):
        both(first, first[:1])
    with pytest.raises(
        DataError, match="Neither evaluation has an answer of 'referring' that is right or wrong"
    ):
        both(first, first, "referring")
