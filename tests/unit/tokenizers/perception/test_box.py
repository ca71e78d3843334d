"""Boxes by hand, and their way through codes and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import DataError, RecipeError
from perceptio.tokenizers.perception._locations import box_iou
from perceptio.tokenizers.perception.box import BoxConfig

TOKENIZER = BoxConfig().build()
COORDINATES = st.floats(0.0, 1.0, width=32)


def mask(height, width, top, left, bottom, right):
    made_HW = np.zeros((height, width), dtype=bool)
    made_HW[top:bottom, left:right] = True
    return made_HW


def test_a_box_by_hand():
    """Rows 5 to 9 of 20 and columns 0 to 29 of 40: y_min, x_min, y_max, x_max, in bins from edge to edge."""
    boxes_T4 = TOKENIZER.targets([mask(20, 40, 5, 0, 10, 30)])
    assert boxes_T4.tolist() == [[0.25, 0.0, 0.5, 0.75]]
    codes_TL = TOKENIZER.to_codes(boxes_T4)
    assert codes_TL.tolist() == [[256, 0, 512, 767]]  # round(0.25 * 1023), …
    shown = TOKENIZER.shown(TOKENIZER.from_codes(codes_TL), [(20, 40)])
    assert shown == [pytest.approx((0.0, 5.005, 29.99, 10.01), abs=0.01)]


def test_a_mask_that_fills_its_picture_touches_every_edge():
    codes_TL = TOKENIZER.to_codes(TOKENIZER.targets([mask(7, 3, 0, 0, 7, 3)]))
    assert codes_TL.tolist() == [[0, 0, 1023, 1023]]
    assert TOKENIZER.shown(TOKENIZER.from_codes(codes_TL), [(7, 3)]) == [(0.0, 0.0, 3.0, 7.0)]


@given(st.lists(COORDINATES, min_size=4, max_size=4), st.integers(2, 2000))
def test_coordinates_come_back_within_half_a_bin(box, bins):
    tokenizer = BoxConfig(bins=bins).build()
    boxes_14 = torch.tensor([box])
    error = (tokenizer.from_codes(tokenizer.to_codes(boxes_14)) - boxes_14).abs().max()
    assert float(error) <= 0.5 / (bins - 1) + 1e-6


def test_every_code_is_its_own():
    codes_K4 = torch.arange(1024)[:, None].expand(-1, 4)
    assert torch.equal(TOKENIZER.to_codes(TOKENIZER.from_codes(codes_K4)), codes_K4)


def test_a_distribution_decodes_to_its_expected_coordinates():
    tokenizer = BoxConfig(bins=5).build()
    probabilities_14K = torch.tensor([[[0, 0.5, 0.5, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0.2] * 5]])
    assert tokenizer.from_probabilities([probabilities_14K])[0].tolist() == pytest.approx([0.375, 0, 1, 0.5])


def test_iou_by_hand():
    one = torch.tensor([[0.0, 0.0, 0.5, 1.0]])
    for other, iou in (
        ([0.0, 0.0, 0.5, 1.0], 1.0),
        ([0.25, 0.0, 0.75, 1.0], 1 / 3),
        ([0.5, 0.0, 1.0, 1.0], 0.0),
        ([0.5, 1.0, 0.0, 0.0], 0.0),  # Its edges are in the wrong order.
    ):
        assert box_iou(one, torch.tensor([other])).tolist() == pytest.approx([iou])


def test_coordinates_are_exact_in_half_precision():
    half = BoxConfig().build().bfloat16()
    codes_K4 = torch.arange(1024)[:, None].expand(-1, 4)
    one_hot_K4K = torch.nn.functional.one_hot(codes_K4, 1024).bfloat16()
    assert torch.equal(half.to_codes(half.from_probabilities([one_hot_K4K])), codes_K4)


def test_a_mask_without_a_pixel_has_no_box():
    with pytest.raises(DataError, match="A mask of 4x6 pixels has none that belongs to its object"):
        TOKENIZER.targets([np.zeros((4, 6), dtype=bool)])


def test_a_coordinate_needs_two_bins():
    with pytest.raises(RecipeError, match="box: bins is 1; a coordinate needs at least 2"):
        BoxConfig(bins=1)
