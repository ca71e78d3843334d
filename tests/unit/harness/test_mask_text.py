"""Masks in replies: what is written is read again, and what is not of the form is no mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from perceptio.harness.mask_text import read_masks, written_mask

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda size: arrays(bool, size))


@given(MASKS)
def test_what_is_written_is_read(mask_HW):
    text = written_mask(mask_HW)
    (read_HW,) = read_masks(f"Sure, here it is. {text} Anything else?", mask_HW.shape)
    np.testing.assert_array_equal(read_HW, mask_HW)
    assert text.count("/") == 1


def test_it_is_coco_s_form():
    # Down the columns: one zero, two ones, one zero.
    text = '<mask>{"size": [2, 2], "counts": "121"}</mask>'
    assert written_mask(np.array([[False, True], [True, False]])) == text
    first_HW, second_HW = read_masks(f"{text}\n{text}", (2, 2))
    np.testing.assert_array_equal(first_HW, second_HW)


@pytest.mark.parametrize(
    "said",
    [
        "no JSON",
        "[]",
        '{"size": [2, 2]}',
        '{"size": 4, "counts": "121"}',
        '{"size": [2, 2], "counts": [1, 2, 1]}',
        '{"size": [3, 2], "counts": "121"}',
        '{"size": [2, 2], "counts": "12"}',
        '{"size": [2, 2], "counts": "1O4"}',
        '{"size": [2, 2], "counts": "Ã"}',
        '{"size": [2, 2], "counts": "1P"}',
    ],
)
def test_what_is_no_mask_is_none(said):
    assert read_masks(f"<mask>{said}</mask>", (2, 2)) == [None]


def test_a_reply_without_one_has_none():
    assert read_masks("<mask> is what I would write.", (2, 2)) == []
