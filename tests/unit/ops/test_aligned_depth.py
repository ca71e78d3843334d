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


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle():
    """Of 1, 2, 4, 8 and of 1, 1, 3, 3 metres the medians are 3 and 2: the map becomes 1.5, 1.5, 4.5, 4.5."""
    errors = aligned_errors(metres(1, 1, 3, 3), metres(1, 2, 4, 8), "median")
    assert errors["absrel"] == pytest.approx((0.5 + 0.25 + 0.125 + 3.5 / 8) / 4)


@pytest.mark.parametrize(
    ("crop", "size", "first", "last"),
    [
        ("eigen_nyu", (480, 640), (45, 41), (470, 600)),
        ("garg", (370, 1224), (151, 43), (365, 1179)),
        ("eigen_kitti", (375, 1242), (124, 44), (341, 1196)),
    ],
)
@pytest.mark.parametrize("alignment", ["none", "least_squares"])
def test_outside_of_a_crop_nothing_counts(crop, size, first, last, alignment):
    """A pixel is wrong by half of its depth, of so many that the crop has: just inside it counts, outside not."""
    truth = np.ones(size, dtype=np.float32)
    truth[first], truth[last] = 2.0, 4.0
    maps = {"none": truth.copy(), "least_squares": 3 / truth}
    inside = (last[0] - first[0] + 1) * (last[1] - first[1] + 1)

    def absrel(*wrong, by=1.5):
        made = maps[alignment].copy()
        for place in wrong:
            made[place] *= by
        unit = "metres" if alignment == "none" else "disparity"
        made, true = DepthMap(values_HW=made, unit=unit), DepthMap(values_HW=truth, unit="metres")
        return aligned_errors(made, true, alignment, crop=crop)["absrel"]

    outside = [
        (first[0] - 1, first[1]),
        (first[0], first[1] - 1),
        (last[0] + 1, last[1]),
        (last[0], last[1] + 1),
    ]
    assert absrel(*outside, (0, 0)) == pytest.approx(0, abs=1e-6)
    if alignment == "none":
        assert absrel(first, last) == pytest.approx(2 * 0.5 / inside)
    else:
        assert absrel(first) > 1e-7 < absrel(last)


def test_a_crop_of_nyu_is_of_its_size_alone():
    with pytest.raises(
        InputError, match="eigen_nyu is of NYUv2's maps of 640x480 pixels, and a true .* is 2x2"
    ):
        aligned_errors(metres(1, 1, 1, 1), TRUTH, "none", crop="eigen_nyu")
    far = DepthMap(values_HW=np.full((48, 64), 9.0, dtype=np.float32), unit="metres")
    with pytest.raises(InputError, match=r"is known within 5.0 m and in the crop garg: leave the map out"):
        aligned_errors(far, far, "none", 5.0, "garg")


def least_squares_by_midas(disparity_P, true_P, cap):
    """Scale and shift by the normal equations, and metres within a cap, as MiDaS's script has them."""
    left = np.array([[np.sum(disparity_P**2), np.sum(disparity_P)], [np.sum(disparity_P), len(disparity_P)]])
    scale, shift = np.linalg.solve(left, [np.sum(disparity_P / true_P), np.sum(1 / true_P)])
    return 1 / np.maximum(scale * disparity_P + shift, 1 / cap)


@given(st.integers(0, 2**32 - 1))
def test_least_squares_is_that_of_midas(seed):
    random = np.random.default_rng(seed)
    true_HW, made_HW = random.uniform(0.5, 12, (5, 7)), random.uniform(0, 1, (5, 7))
    true_HW[0, 0] = np.nan
    known = true_HW <= 10
    made_P = least_squares_by_midas(made_HW[known], true_HW[known], 10)
    truth = DepthMap(values_HW=true_HW.astype(np.float32), unit="metres")
    errors = aligned_errors(
        DepthMap(values_HW=made_HW.astype(np.float32), unit="disparity"), truth, "least_squares", 10
    )
    assert errors["absrel"] == pytest.approx(np.mean(abs(made_P - true_HW[known]) / true_HW[known]), rel=1e-4)
    ratio = np.maximum(made_P / true_HW[known], true_HW[known] / made_P)
    assert errors["delta1"] == pytest.approx(np.mean(ratio < 1.25), abs=0.04)


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
