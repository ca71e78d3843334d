"""Measured on a tokenizer whose codes can be worked out: each cell's mean depth in eight levels."""

import numpy as np
import pytest
import torch
from fakes import FakeDepth

from perceptio.errors import DataError, InterfaceError
from perceptio.evaluation.tokenizers import evaluate_tokenizer, round_trip
from perceptio.interfaces import DepthConvention, DepthMap, DepthSpec

METRIC = DepthConvention(near_m=1.0, far_m=16.0)
NAN = float("nan")


def tokenizer(convention=METRIC):
    return FakeDepth(DepthSpec(codebook_size=8, grid=(2, 2), image_size=(4, 4), convention=convention))


def cells(*values):
    """A map [1, 1, 4, 4] of four flat cells."""
    return torch.tensor(values).view(1, 1, 2, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_figures_by_hand():
    """Levels are at 1/16, 3/16, …; every cell is 1/32 off its level, a ratio of 16^(1/32)."""
    figures = evaluate_tokenizer(tokenizer(), cells(3 / 32, 3 / 32, 11 / 32, 31 / 32))
    assert figures["absolute_error"] == pytest.approx(1 / 32)
    assert figures["rmse_log"] == pytest.approx(np.log(16) / 32, rel=1e-4)
    assert figures["delta1"] == 1.0 and figures["ordinal"] == 1.0 and figures["count"] == 1
    assert figures["codes_used"] == 3
    assert figures["perplexity"] == pytest.approx(2 * np.sqrt(2))  # Shares 1/2, 1/4, 1/4.


def test_half_precision_and_unknown_pixels():
    """A pixel of the first cell is filled with the map's mean, about 3/4, which moves the cell to the next level."""
    holed = cells(1 / 16, 15 / 16, 15 / 16, 15 / 16)
    holed[..., 0, 0] = NAN
    whole, half = (evaluate_tokenizer(tokenizer(), maps) for maps in (holed, holed.half()))
    assert whole["absolute_error"] == pytest.approx(3 * (1 / 8) / 15)
    assert half == pytest.approx(whole, rel=1e-3)


def test_relative_depth_has_an_order_and_no_metres():
    figures = evaluate_tokenizer(tokenizer(DepthConvention()), cells(0.1, 0.4, 0.6, 0.9))
    assert set(figures) == {"absolute_error", "ordinal", "count", "codes_used", "perplexity"}
    assert figures["ordinal"] == 1.0


def test_relative_pairs_within_twenty_gray_levels_are_not_asked_for():
    """Four depths within one level, at most 0.06 apart: too near to be asked."""
    near = evaluate_tokenizer(tokenizer(DepthConvention()), cells(0.38, 0.44, 0.40, 0.42))
    assert near["ordinal"] == 0.0 and near["absolute_error"] < 0.04


def test_nothing_to_measure_on_is_refused():
    with pytest.raises(InterfaceError, match="No map was given"):
        evaluate_tokenizer(tokenizer(), torch.zeros(0, 1, 4, 4))


def metres(values_HW):
    return DepthMap(values_HW=np.asarray(values_HW, dtype=np.float32), unit="metres")


def test_a_map_of_any_size_comes_back_at_its_size():
    given = metres(np.geomspace(1.2, 15.0, 7 * 10).reshape(7, 10))
    made = round_trip(tokenizer(), given)
    assert made.codes_hw.shape == (2, 2) and made.codes_hw.dtype == np.int64
    assert made.codes_hw[0, 0] < made.codes_hw[1, 1]
    assert made.depth.values_HW.shape == (7, 10) and made.depth.unit == "metres"
    np.testing.assert_array_equal(made.truth_HW, given.values_HW)
    assert made.figures["outside"] == 0.0
    assert {"absolute_error", "absrel", "rmse", "delta1", "ordinal"} <= made.figures.keys()


def test_depth_beyond_the_tokenizer_s_range_is_counted_and_measured_as_it_is():
    """All known pixels are at 32 m and clipped to 16 m, of which the top level is 16^(-1/16) short."""
    made = round_trip(tokenizer(), metres([[32.0, 32.0], [32.0, np.nan]]))
    assert made.figures["outside"] == 1.0
    assert made.figures["absrel"] == pytest.approx(1 - 16 ** (15 / 16) / 32, rel=1e-3)


def test_the_ends_of_the_range_lie_within_it():
    assert round_trip(tokenizer(), metres([[1.0, 16.0], [1.0, 17.0]])).figures["outside"] == 0.25


def test_a_single_pixel_is_a_map():
    made = round_trip(tokenizer(), metres([[2.0]]))
    assert made.depth.values_HW.shape == (1, 1) and len(np.unique(made.codes_hw)) == 1


def test_relative_tokenizers_take_either_unit_and_return_disparity():
    values = np.geomspace(1.0, 8.0, 16).reshape(4, 4)
    for given in (metres(values), DepthMap(values_HW=(5 / values).astype(np.float32), unit="disparity")):
        made = round_trip(tokenizer(DepthConvention()), given)
        assert (
            made.depth.unit == "disparity" and "absrel" not in made.figures and "outside" not in made.figures
        )
        assert made.truth_HW.max() == 1.0 and made.truth_HW.min() == 0.0
        assert made.truth_HW[0, 0] == 1.0  # Near is one.


def test_maps_that_cannot_be_encoded_are_refused():
    with pytest.raises(DataError, match="no known pixel"):
        round_trip(tokenizer(), metres([[np.nan]]))
    with pytest.raises(DataError, match="speaks of metres"):
        round_trip(tokenizer(), DepthMap(values_HW=np.ones((4, 4), np.float32), unit="disparity"))
    lonely = np.full((400, 400), np.nan)
    lonely[0, 0] = 2.0
    with pytest.raises(DataError, match="too few known pixels to be seen"):
        round_trip(tokenizer(), metres(lonely))
