"""Tasks are held to what they promise where they make it, whoever wrote them."""

import re

import pytest

from perceptio.errors import InterfaceError
from perceptio.interfaces import GenerationSettings, Pass, Task, Turn


def lying(base, **methods):
    """A task or a pass whose given methods make the given values."""
    body = {name: (lambda self, *given, made=made: made) for name, made in methods.items()}
    cls = type("Lying", (base,), body)
    cls.__abstractmethods__ = frozenset()
    return cls("colors") if base is Pass else cls()


def turn(**changes):
    return Turn(**{"question": "Which?", "answer": "red", "task": "colors", **changes})


@pytest.mark.parametrize(
    ("base", "method", "made", "message"),
    [
        (Task, "own_turn", None, "returned None; it must return a Turn."),
        (Task, "own_turn", turn(answer=3), "gave 3 as answer; it must be text."),
        (Task, "own_turn", turn(question=None), "gave None as question; it must be text."),
        (
            Task,
            "own_turn",
            turn(task="color"),
            "gave a turn of the task 'color'; give it the name that it is given,",
        ),
        (Task, "own_turn", turn(points=((3.0, 0.5),)), "marked ((3.0, 0.5),); points are (x, y) in [0, 1]."),
        (Task, "passes", 3, "returned 3; it must return a list of Pass."),
        (Task, "passes", [3], "returned [3]; it must return a list of Pass."),
        (Pass, "settings", None, "returned None; it must return GenerationSettings."),
        (Pass, "is_right", None, "returned None; it must return True or False."),
        (
            Pass,
            "figures",
            {"accuracy": 0.5},
            "returned {'accuracy': 0.5}; it must return figures by the name of",
        ),
        (
            Pass,
            "score",
            3,
            "returned 3; it must return what is to be kept of the reply, such as {'colors': {'right':",
        ),
        (Pass, "score", {"right": True}, "returned {'right': True}; it must return what is to be kept"),
        (
            Pass,
            "score",
            {"colors": {"right": 1}},
            "returned {'colors': {'right': 1}}; it must return what is to be",
        ),
        (
            Pass,
            "score",
            {"colors": {"error": object}},
            "returned {'colors': {'error': <class 'object'>}}; it must",
        ),
    ],
)
def test_what_a_task_makes_is_what_it_promises(base, method, made, message):
    given = {
        "own_turn": ("colors", None),
        "passes": ("colors", None),
        "settings": ([],),
        "score": (None,),
        "is_right": (None,),
        "figures": (),
    }[method]
    with pytest.raises(InterfaceError, match=rf"^Lying\.{method} {re.escape(message)}"):
        getattr(lying(base, **{method: made}), method)(*given)


def test_a_task_that_keeps_its_promises_is_left_alone():
    held, one = turn(points=((0.0, 1.0),)), lying(Pass, settings=GenerationSettings(), figures={"colors": {}})
    assert lying(Task, own_turn=held).own_turn("colors", None) is held
    assert lying(Task, passes=[one]).passes("colors", None) == [one]
    assert one.settings([]) == GenerationSettings() and one.figures() == {"colors": {}}
    kept = {"colors": {"right": False, "said": "red", "errors": [0.5, None]}}
    assert lying(Pass, score=kept).score(None) is kept and lying(Pass, score=None).score(None) is None


def test_a_pass_with_controls_says_what_is_right():
    with pytest.raises(InterfaceError, match="Lying has controlled, and no is_right: add the method"):
        lying(Pass).is_right(None)
