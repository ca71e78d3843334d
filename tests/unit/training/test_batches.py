"""Batches made ahead: the same in the same order, and failures in their place."""

import threading
import time

import pytest

from perceptio.training.batches import made_ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_change_nothing_about_what_comes(workers):
    def make(draw):
        time.sleep(0.002 * (draw % 3))  # Later ones may be ready before.
        return draw * draw

    made = made_ahead(make, range(1, 20, 2), workers=workers, ahead=4)
    assert list(made) == [draw * draw for draw in range(1, 20, 2)]


def test_a_failure_comes_where_its_batch_would_have_come():
    made = made_ahead(lambda draw: 1 // (3 - draw), range(6), workers=2, ahead=5)
    assert [next(made) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_no_more_are_made_than_can_wait_and_none_when_nobody_asks():
    begun = []
    made = made_ahead(lambda draw: begun.append(draw), range(100), workers=1, ahead=2)
    next(made)
    time.sleep(0.05)
    assert begun == [0, 1, 2]
    made.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("batches")]
