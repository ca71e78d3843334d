"""Maps, masks and boxes as pictures, pixel by pixel."""

import numpy as np
import pytest

from perceptio.interfaces import DepthMap
from perceptio.ops.pictures import COLORS, overlaid, picture_of

BLACK = np.zeros((4, 4, 3), dtype=np.uint8)


def test_one_channel_is_gray_from_its_lowest_to_its_highest_value():
    picture = picture_of(np.array([[[2.0], [4.0]], [[6.0], [np.nan]]], dtype=np.float32))
    assert picture.tolist() == [[[0] * 3, [128] * 3], [[255] * 3, [0] * 3]]


def test_colors_are_taken_as_they_are_and_vectors_from_minus_one():
    assert picture_of(np.array([[[0.0, 0.5, 1.0]]])).tolist() == [[[0, 128, 255]]]
    assert picture_of(np.array([[[-1.0, 0.0, 1.0]]])).tolist() == [[[0, 128, 255]]]


def test_near_depth_is_bright_in_either_unit():
    metres = picture_of(DepthMap(values_HW=np.array([[1.0, 8.0]], dtype=np.float32), unit="metres"))
    disparity = picture_of(DepthMap(values_HW=np.array([[1.0, 0.1]], dtype=np.float32), unit="disparity"))
    assert metres.tolist() == disparity.tolist()
    assert int(metres[0, 0].astype(int).sum()) > int(metres[0, 1].astype(int).sum())


@pytest.mark.parametrize("decoded", [None, (), np.zeros((3, 64)), np.zeros((2, 2, 5)), "text"])
def test_what_is_no_map_has_no_picture(decoded):
    assert picture_of(decoded) is None


def test_a_mask_is_laid_over_and_a_box_outlined_each_in_its_own_color():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 0] = True
    shown = overlaid(BLACK, [mask, (1.0, 1.0, 3.0, 3.0), None])
    assert shown[0, 0].tolist() == [round(0.55 * value) for value in COLORS[0]]
    outline = {(row, column) for row, column in np.argwhere((shown == COLORS[1]).all(2)).tolist()}
    assert outline == {(r, c) for r in (1, 2, 3) for c in (1, 2, 3)} - {(2, 2)}
    assert not BLACK.any()


def test_a_box_that_leaves_the_picture_is_cut_at_its_border():
    assert overlaid(BLACK, [(-5.0, -5.0, 99.0, 99.0)])[0].any(1).all()
