"""COCO's run lengths, against its own library where that is there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from perceptio.ops.run_lengths import format_runs, mask_of, parse_runs, runs_of

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


def test_runs_go_down_the_columns_and_begin_with_zeros():
    mask_HW = np.array([[1, 0], [1, 1], [0, 0]], dtype=bool)
    assert runs_of(mask_HW).tolist() == [0, 2, 2, 1, 1]
    assert format_runs(np.array([0, 2, 2, 1, 1])) == "022OO"  # The fourth and fifth as differences of -1.
    assert parse_runs("022OO").tolist() == [0, 2, 2, 1, 1]
    assert parse_runs("").tolist() == []


@given(masks)
def test_a_mask_comes_back(mask_HW):
    text = format_runs(runs_of(mask_HW))
    np.testing.assert_array_equal(mask_of(parse_runs(text), mask_HW.shape), mask_HW)


@given(masks)
def test_strings_are_those_of_cocos_own_library(mask_HW):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    theirs = coco.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    assert format_runs(runs_of(mask_HW)) == theirs["counts"].decode()
    np.testing.assert_array_equal(mask_of(parse_runs(theirs["counts"].decode()), mask_HW.shape), mask_HW)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=130), max_size=30))
def test_any_string_is_runs_or_a_reason(text):
    try:
        assert parse_runs(text).dtype == np.int64
    except ValueError as error:
        assert str(error).split()[0] in ("hold", "end", "have")
