import pytest

from perceptio.demo.settings import CONTROLS, DIRECT, PERCEPTIO, STREAMS, DemoSettings
from perceptio.errors import InputError


def test_held_out_scenes_follow_few_training_scenes() -> None:
    assert DemoSettings().held_out == 250
    assert DemoSettings(scenes=64).held_out == 64


def test_more_arms_are_asked_for() -> None:
    always = (PERCEPTIO, *CONTROLS)
    assert DemoSettings().arms == always
    assert DemoSettings(direct=True).arms == (*always, DIRECT)
    assert DemoSettings(streams=True).arms == (*always, STREAMS)
    assert DemoSettings(direct=True, streams=True).arms == (*always, DIRECT, STREAMS)


@pytest.mark.parametrize("name", ["scenes", "steps", "cores"])
def test_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0: the demo needs at least 1"):
        DemoSettings(**{name: 0})


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="seed is -1: it must not be below 0"):
        DemoSettings(seed=-1)
