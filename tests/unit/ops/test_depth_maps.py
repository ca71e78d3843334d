import math

import numpy as np
import pytest
import torch

from perceptio.errors import DataError
from perceptio.interfaces import DepthConvention, DepthMap
from perceptio.interfaces.depth_maps import from_map
from perceptio.interfaces.maps import resize_maps

METRIC = DepthConvention(near_m=1.0, far_m=16.0)
NAN = float("nan")


def metres(*rows):
    return DepthMap(values_HW=np.array(rows, dtype=np.float32), unit="metres")


def test_metres_become_equal_steps_of_equal_ratios():
    unit = from_map(metres([1.0, 4.0], [16.0, NAN]), METRIC)
    torch.testing.assert_close(unit, torch.tensor([[[[0.0, 0.5], [1.0, NAN]]]]), equal_nan=True)


def test_a_relative_convention_takes_inverse_metres_and_scales_them_by_the_map():
    unit = from_map(metres([1.0, 2.0], [NAN, 4.0]), DepthConvention())
    torch.testing.assert_close(unit, torch.tensor([[[[1.0, 1 / 3], [NAN, 0.0]]]]), equal_nan=True)
    flat = from_map(metres([3.0, 3.0]), DepthConvention())
    assert flat.tolist() == [[[[0.5, 0.5]]]]


def test_disparity_has_no_metres():
    disparity = DepthMap(values_HW=np.ones((2, 2), dtype=np.float32), unit="disparity")
    with pytest.raises(DataError, match="speaks of metres and the depth map of disparity"):
        from_map(disparity, METRIC)


def test_a_map_of_nothing_but_unknown_pixels_is_refused():
    with pytest.raises(DataError, match="no known pixel"):
        from_map(metres([NAN, NAN]), METRIC)


@pytest.mark.parametrize("convention", [METRIC, DepthConvention()])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("-inf")])
def test_a_pixel_that_is_no_depth_is_refused(convention, value):
    """It would be the nearest or farthest of all, and push the rest of a relative map into one value."""
    with pytest.raises(
        DataError, match=r"A depth map has depths from .* metres: mark unknown pixels with NaN"
    ):
        from_map(metres([1.0, 2.0], [value, 4.0]), convention)


def test_disparity_may_be_zero_which_is_infinitely_far():
    unit = from_map(
        DepthMap(values_HW=np.array([[0.0, 2.0]], np.float32), unit="disparity"), DepthConvention()
    )
    assert unit.tolist() == [[[[0.0, 1.0]]]]


def test_resizing_averages_known_pixels_alone():
    depth = torch.tensor([[1.0, 3.0, NAN, NAN], [1.0, 3.0, NAN, NAN]])[None, None]
    small = resize_maps(depth, (1, 2))
    assert 1.0 <= small[0, 0, 0, 0] <= 3.0
    assert resize_maps(torch.full((1, 1, 8, 8), NAN), (2, 2)).isnan().all()
    assert resize_maps(depth, (2, 4)) is depth


def test_a_constant_map_stays_constant_at_any_size():
    depth = torch.full((1, 1, 7, 9), 2.5)
    depth[0, 0, 2:4, 3] = NAN
    resized = resize_maps(depth, (23, 4))
    assert math.isclose(resized.nan_to_num(2.5).min().item(), 2.5, rel_tol=1e-6)
    assert math.isclose(resized.nan_to_num(2.5).max().item(), 2.5, rel_tol=1e-6)
