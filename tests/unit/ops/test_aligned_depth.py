"""Depth maps against truth, by hand, and what an alignment takes away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import InputError
from perceptio.interfaces import DepthMap
from perceptio.ops.aligned_depth import aligned_errors, mean_errors, score_depth

TRUTH = DepthMap(values_HW=np.array([[1.0, 2.0], [4.0, np.nan]], dtype=np.float32), unit="metres")


def metres(*values):
    return DepthMap(values_HW=np.array(values, dtype=np.float32).reshape(2, 2), unit="metres")


def disparity(*values):
    return DepthMap(values_HW=np.array(values, dtype=np.float32).reshape(2, 2), unit="disparity")


def test_metres_as_they_are_by_hand():
    """Errors 0.5, 0 and 2 of 1, 2 and 4 metres; ratios 1.5, 1 and 1.5, below 1.25^2."""
    errors = aligned_errors(metres(1.5, 2, 6, 9), TRUTH, "none")
    assert errors["absrel"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert errors["rmse"] == pytest.approx(((0.25 + 0 + 4) / 3) ** 0.5)
    assert errors["delta1"] == pytest.approx(1 / 3) and errors["delta2"] == errors["delta3"] == 1


def test_truth_beyond_the_range_is_unknown_and_predictions_are_clipped_to_it():
    errors = aligned_errors(metres(1, 8, 6, 9), TRUTH, "none", 2.5)
    assert errors["absrel"] == pytest.approx((0 + 0.25) / 2)


@given(scale=st.floats(0.1, 10))
def test_median_scaling_takes_a_factor_away(scale):
    errors = aligned_errors(metres(*(scale * x for x in (1, 2, 4, 3))), TRUTH, "median")
    assert errors["absrel"] == pytest.approx(0, abs=1e-5)
    inverse = aligned_errors(disparity(*(0.9 / x for x in (1, 2, 4, 3))), TRUTH, "median")
    assert inverse["absrel"] == pytest.approx(0, abs=1e-5)


@given(scale=st.floats(0.05, 5), shift=st.floats(0, 3))
def test_least_squares_takes_scale_and_shift_of_disparity_away(scale, shift):
    errors = aligned_errors(disparity(*(scale / x + shift for x in (1, 2, 4, 3))), TRUTH, "least_squares")
    assert errors["absrel"] == pytest.approx(0, abs=1e-3) and errors["delta1"] == 1


def test_a_flat_map_is_aligned_to_the_mean_disparity():
    errors = aligned_errors(disparity(0.5, 0.5, 0.5, 0.5), TRUTH, "least_squares")
    mean = 3 / (1 + 1 / 2 + 1 / 4)
    assert errors["absrel"] == pytest.approx(sum(abs(mean - x) / x for x in (1, 2, 4)) / 3)


def test_what_is_aligned_beyond_the_truth_s_farthest_is_there():
    """The best line through disparities 1, 1/2, 1/2 and 0 of 1, 1/2, 1/2 and 1/2 ends at 3/8, or 2.7 m: 2 m."""
    truth = metres(1, 2, 2, 2)
    errors = aligned_errors(disparity(1, 0.5, 0.5, 0), truth, "least_squares")
    assert errors["rmse"] == pytest.approx((((8 / 7 - 1) ** 2 + 2 * (1.6 - 2) ** 2) / 4) ** 0.5, abs=1e-5)


def test_a_prediction_is_stretched_to_the_size_of_the_truth():
    small = DepthMap(values_HW=np.full((1, 1), 2.0, dtype=np.float32), unit="metres")
    assert aligned_errors(small, TRUTH, "none")["absrel"] == pytest.approx((1 + 0 + 0.5) / 3)


def test_means_are_over_maps_that_were_predicted_and_the_rest_is_counted():
    figures = score_depth([(metres(1, 2, 4, 0), TRUTH), (metres(2, 4, 8, 0), TRUTH), (None, TRUTH)])
    assert figures["absrel"] == pytest.approx(0.5) and (figures["count"], figures["missing"]) == (3, 1)
    low, high = figures["absrel_interval"]
    assert 0 <= low <= 0.5 <= high <= 1
    assert mean_errors([None]) == {"count": 1, "missing": 1}


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="no metres to be measured as they are: align it by median or least"):
        aligned_errors(disparity(1, 1, 1, 1), TRUTH, "none")
    with pytest.raises(InputError, match="against a truth in metres, and this is in disparity"):
        aligned_errors(metres(1, 1, 1, 1), disparity(1, 1, 1, 1), "none")
    with pytest.raises(InputError, match=r"No pixel of a true depth map is known within 0\.5 m"):
        aligned_errors(metres(1, 1, 1, 1), TRUTH, "none", 0.5)
