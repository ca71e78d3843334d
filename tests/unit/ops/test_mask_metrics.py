"""Figures of referring segmentation, by hand and against the arithmetic of Sa2VA's evaluation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from perceptio.ops.mask_metrics import MaskMeter, score_masks, united

LEFT, RIGHT = np.array([[True, False, False]]), np.array([[False, False, True]])
NOTHING, ALL = np.zeros((1, 3), dtype=bool), np.ones((1, 3), dtype=bool)


def test_by_hand():
    """Intersections 1, 2, 0 and unions 3, 3, 1: masks of one answer are united, and one without is empty."""
    figures = score_masks([([LEFT], ALL), ([LEFT, None, RIGHT], ALL), ([], LEFT)])
    assert figures["ciou"] == pytest.approx(3 / 7)
    assert figures["giou"] == pytest.approx((1 / 3 + 2 / 3 + 0) / 3, abs=1e-5)
    assert (figures["count"], figures["missing"]) == (3, 1)


def test_an_empty_mask_of_an_empty_target_is_right():
    figures = score_masks([([], NOTHING), ([LEFT], NOTHING)])
    assert figures["giou"] == 0.5 and figures["ciou"] == 0.0


def test_none_is_no_union():
    assert united([]) is None and united([None]) is None
    np.testing.assert_array_equal(united([LEFT, None, RIGHT]), [[True, False, True]])


class _Average:
    """What Sa2VA's evaluation keeps of each figure: a weighted sum and its weight."""

    def __init__(self):
        self.sum, self.count = np.zeros(2), 0

    def update(self, value, n=1):
        self.sum, self.count = self.sum + value * n, self.count + n


def res_evaluation(pictures):
    """The arithmetic of RES evaluation in Sa2VA (October 2025), written anew: the foreground's cIoU and gIoU.

    A picture has masks and targets; of two classes the areas are counted, and an answer without a mask is all zero.
    """
    intersections, unions, ious = _Average(), _Average(), _Average()
    for masks, targets in pictures:
        intersection, union, iou = np.zeros(2), np.zeros(2), np.zeros(2)
        for mask, target in zip(masks, targets, strict=True):
            made, true = (np.zeros_like(target) if mask is None else mask).astype(int), target.astype(int)
            shared = np.array([((made == c) & (true == c)).sum() for c in (0, 1)], dtype=float)
            areas = np.array([(made == c).sum() + (true == c).sum() for c in (0, 1)], dtype=float) - shared
            intersection, union = intersection + shared, union + areas
            iou = iou + shared / (areas + 1e-5) + (areas == 0)
        intersections.update(intersection)
        unions.update(union)
        ious.update(iou / len(targets), n=len(targets))
    return intersections.sum[1] / (unions.sum[1] + 1e-10), ious.sum[1] / ious.count


MASK = arrays(bool, (4, 5))
EXPRESSION = st.tuples(st.none() | MASK, MASK)


@given(st.lists(st.lists(EXPRESSION, min_size=1, max_size=4), min_size=1, max_size=4))
def test_figures_are_those_of_the_published_script(pictures):
    ciou, giou = res_evaluation([tuple(zip(*expressions, strict=True)) for expressions in pictures])
    figures = score_masks(
        ([] if mask is None else [mask], true) for expressions in pictures for mask, true in expressions
    )
    if any(true.any() or (mask is not None and mask.any()) for one in pictures for mask, true in one):
        assert figures["ciou"] == pytest.approx(ciou, abs=1e-9)  # Of nothing at all, theirs is 0 and ours 1.
    assert figures["giou"] == pytest.approx(giou, abs=1e-9)


@given(st.lists(EXPRESSION, min_size=1, max_size=6))
def test_overlaps_that_were_kept_give_the_same_figures(expressions):
    first, again = MaskMeter(), MaskMeter()
    for mask, true in expressions:
        again.add(first.update(mask, true))
    assert again.compute() == first.compute()
