"""Intervals by hand and from tables."""

import math

import numpy as np
import pytest

from perceptio.errors import InputError
from perceptio.ops import intervals
from perceptio.ops.intervals import NORMAL_QUANTILE, bootstrap_ratio, student_t, t_quantile, wilson


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (5, 2.57058), (9, 2.26216), (30, 2.04227)],
)
def test_quantiles_of_students_t_are_those_of_tables(degrees, quantile):
    assert t_quantile(degrees) == pytest.approx(quantile, rel=1e-5)


def test_many_degrees_are_the_normal_distribution():
    assert t_quantile(100_000) == pytest.approx(NORMAL_QUANTILE, abs=1e-4)


def test_an_interval_over_seeds_by_hand():
    """Of 0.70, 0.74 and 0.78 the mean is 0.74 and the standard deviation 0.04: 4.303 * 0.04 / sqrt(3)."""
    half = 4.30265 * 0.04 / math.sqrt(3)
    assert student_t([0.70, 0.74, 0.78]) == pytest.approx((0.74 - half, 0.74 + half), abs=1e-6)
    assert student_t([0.5, 0.5]) == (0.5, 0.5)
    with pytest.raises(InputError, match="needs two of them or more, and there is 1."):
        student_t([0.5])


def test_wilsons_interval_stays_a_share():
    assert wilson(0, 10)[0] == 0 and wilson(0, 0) == (0, 1)
    assert wilson(10, 10)[1] == pytest.approx(1) and wilson(10, 10)[1] <= 1
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_resamples_drawn_some_at_a_time_are_the_same(monkeypatch):
    values = np.random.default_rng(1).random(50).tolist()
    whole = bootstrap_ratio(values, [1.0] * 50)
    monkeypatch.setattr(intervals, "DRAWS", 50 * 7)
    assert bootstrap_ratio(values, [1.0] * 50) == whole
