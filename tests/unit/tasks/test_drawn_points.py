"""Points that a picture shows itself, scored by hand."""

import re

import pytest

from perceptio.interfaces import Question, Reply, Sample, TaskData, Turn
from perceptio.tasks.drawn_points import DrawnPointsTaskConfig
from perceptio.testing.component import MODEL

DRAWN = Turn(question="Closest?", answer="(B)", task="drawn_points")


def passes(perceives):
    task = DrawnPointsTaskConfig().build(MODEL)
    return task.passes("drawn_points", TaskData(model=MODEL, perceives=perceives, units={}, text=None))


def test_depth_is_written_first_and_controlled_where_it_is():
    (one,) = passes(("depth", "edges"))
    settings = one.settings([])
    assert settings.streams == settings.force == ("depth", "edges") and not settings.readout
    assert one.controlled == ("depth",) and passes(())[0].controlled == ()
    assert DrawnPointsTaskConfig().build(MODEL).required == ("depth",)


def test_right_letters_are_counted_and_unreadable_answers_are_wrong():
    (one,) = passes(())
    kept = []
    for text in ("(B)", "point B is closest", "C", "no idea"):
        one.asked += 1
        kept.append(one.score(Reply(question=Question(sample=Sample(turns=(DRAWN,)), turn=DRAWN), text=text)))
    assert [row["drawn_points"]["right"] for row in kept] == [True, True, False, False]
    figures = one.figures()["drawn_points"]
    assert figures["accuracy"] == 0.5 and figures["count"] == 4 and figures["unparsed"] == 1
    assert 0 < figures["interval"][0] < 0.5 < figures["interval"][1] < 1


@pytest.mark.parametrize(
    ("answer", "points", "why"),
    [
        ("B", (), r"the answer 'B' of a drawn_points turn is not a letter in parentheses"),
        ("((B))", (), "is not a letter in parentheses"),
        (
            "(B)",
            ((0.5, 0.5),),
            "has points, and the picture is to show them itself: call the task relative_depth",
        ),
    ],
)
def test_what_is_no_such_turn_is_said(answer, points, why):
    turn = Turn(question="Closest?", answer=answer, task="drawn_points", points=points)
    (problem,) = DrawnPointsTaskConfig().problems(turn)
    assert re.search(why, problem)
    assert not list(DrawnPointsTaskConfig().problems(DRAWN))
