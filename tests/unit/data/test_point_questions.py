"""Marked points of real depth: the rules hold for whatever is asked."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptio.data.point_questions import (
    PointRules,
    apart,
    differ,
    height_rank,
    inverse_depth_levels,
    point_turns,
)
from perceptio.interfaces import LETTERS, DepthMap


def ramp(unit="metres", height=96, width=64, known=1.0):
    """A floor: from nine metres at the top to one at the bottom, a share of its pixels known."""
    values_HW = np.repeat(np.linspace(1 / 9, 1, height, dtype=np.float32)[:, None], width, 1)
    values_HW[np.random.default_rng(0).random(values_HW.shape) > known] = np.nan
    return DepthMap(values_HW=values_HW if unit == "disparity" else 1 / values_HW, unit=unit)


def pixels(turn, depth):
    height, width = depth.values_HW.shape
    return [(int(y * height), int(x * width)) for x, y in turn.points]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(2, 5),
    unit=st.sampled_from(["metres", "disparity"]),
    known=st.sampled_from([1.0, 0.2]),
    balanced=st.booleans(),
)
def test_points_obey_the_rules_and_the_answer_is_the_nearest(seed, count, unit, known, balanced):
    depth, rules = (
        ramp(unit, known=known),
        PointRules(min_ratio=1.1, clearance=1, min_levels=15, balanced=balanced),
    )
    (turn,) = point_turns(depth, [count], rules, np.random.default_rng(seed))
    assert turn is not None and turn.task == "relative_depth" and len(turn.points) == count
    places, levels_HW = pixels(turn, depth), inverse_depth_levels(depth)
    levels = [levels_HW[place] for place in places]
    assert not np.isnan(levels).any()
    assert turn.answer == f"({LETTERS[int(np.argmax(levels))]})"
    assert np.diff(sorted(levels)).min() >= 15
    if unit == "metres":
        depths = sorted(depth.values_HW[place] for place in places)
        assert all(far >= 1.0999 * near for near, far in pairwise(depths))
    for number, (row, column) in enumerate(places):
        assert 5 <= row < 91 and 3 <= column < 61
        assert all(
            abs(row - r) >= rules.min_apart * 96 or abs(column - c) >= rules.min_apart * 64
            for r, c in places[:number]
        )
        around = levels_HW[row - 1 : row + 2, column - 1 : column + 2]
        assert np.nanmax(around) - np.nanmin(around) <= 7.5


def test_questions_are_those_of_their_seed_and_differ_between_seeds():
    made = [
        point_turns(ramp(), [3, 4], PointRules(clearance=0), np.random.default_rng(seed))
        for seed in (5, 5, 6)
    ]
    first, again, other = ([turn.points for turn in turns] for turns in made)
    assert first == again != other


def test_balance_takes_the_height_out_of_the_answer():
    depth = ramp()
    depth.values_HW[:48, :16] = 0.9  # Something near at the top of a floor.

    def lowest_is_right(balanced):
        rules, right = PointRules(balanced=balanced, clearance=0), 0
        for seed in range(200):
            (turn,) = point_turns(depth, [2], rules, np.random.default_rng(seed))
            heights = [y for _, y in turn.points]
            right += LETTERS[int(np.argmax(heights))] == turn.answer.strip("()")
        return right / 200

    assert lowest_is_right(balanced=False) > 0.65
    assert 0.42 < lowest_is_right(balanced=True) < 0.58


def test_depth_that_allows_no_question_gives_none():
    flat = DepthMap(values_HW=np.full((40, 40), 2, np.float32), unit="metres")
    assert point_turns(flat, [3], PointRules(), np.random.default_rng(0)) == [None]
    edges = DepthMap(
        values_HW=np.where(np.indices((40, 40)).sum(0) % 2, 1, 9).astype(np.float32), unit="metres"
    )
    assert point_turns(edges, [2, 3], PointRules(), np.random.default_rng(0)) == [None, None]
    assert point_turns(edges, [2], PointRules(clearance=0), np.random.default_rng(0)) != [None]


def test_the_arithmetic_of_sets():
    rows_SN, columns_SN = np.array([[0, 3, 9], [0, 3, 9]]), np.array([[0, 4, 4], [0, 1, 0]])
    assert apart(rows_SN, columns_SN, 4, 4).tolist() == [True, False]
    assert apart(rows_SN, columns_SN, 3, 9).tolist() == [True, True]
    assert differ(np.array([[4.0, 1.0, 2.0], [1.0, 1.9, 4.0]], np.float32), 2).tolist() == [True, False]
    assert height_rank(rows_SN, np.array([2, 0])).tolist() == [0, 2]
    depth = DepthMap(values_HW=np.array([[1, 2], [4, np.nan]], np.float32), unit="metres")
    np.testing.assert_allclose(inverse_depth_levels(depth), [[255, 85], [0, np.nan]])


@pytest.mark.parametrize("counts", [(1,), (3, 27), ()])
def test_numbers_of_points_are_two_to_twenty_six(counts):
    with pytest.raises(ValueError, match="counts"):
        PointRules(counts=counts)
