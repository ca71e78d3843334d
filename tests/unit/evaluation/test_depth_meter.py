import math

import attrs
import numpy as np
import pytest
import torch

from perceptio.errors import InterfaceError
from perceptio.interfaces import DepthMap
from perceptio.ops.depth_metrics import DepthMapMeter, DepthMeter

NAN = float("nan")


def scored(predicted, target):
    meter = DepthMeter()
    meter.update(torch.tensor(predicted)[None, None], torch.tensor(target)[None, None])
    return meter.compute()


def test_figures_by_hand():
    figures = scored([[2.2, 6.0]], [[2.0, 4.0]])
    assert figures["absrel"] == pytest.approx((0.1 + 0.5) / 2)
    assert figures["rmse"] == pytest.approx(math.sqrt((0.04 + 4.0) / 2))
    assert figures["delta1"] == 0.5  # 6 / 4 is above 1.25 and below 1.25 squared
    assert figures["delta2"] == 1.0
    assert figures["ordinal"] == 1.0
    assert figures["count"] == 1


def test_unknown_pixels_count_for_nothing():
    assert scored([[2.2, 99.0]], [[2.0, NAN]])["absrel"] == pytest.approx(0.1)


def test_a_reversed_map_orders_no_pair():
    assert scored([[4.0, 1.0]], [[1.0, 4.0]])["ordinal"] == 0.0


def test_maps_are_averaged_not_pixels():
    meter = DepthMeter()
    meter.update(torch.full((1, 1, 1, 1), 1.1), torch.ones(1, 1, 1, 1))
    meter.update(torch.full((1, 1, 10, 10), 1.3), torch.ones(1, 1, 10, 10))
    assert meter.compute()["absrel"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("predicted", "target", "message"),
    [
        (torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 3), "resize one to the other"),
        (torch.full((1, 1, 1, 1), NAN), torch.ones(1, 1, 1, 1), "not finite"),
        (torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), NAN), "no known pixel"),
    ],
)
def test_what_cannot_be_scored_is_refused(predicted, target, message):
    with pytest.raises(InterfaceError, match=message):
        DepthMeter().update(predicted, target)


def test_nothing_scored_has_no_figures():
    with pytest.raises(InterfaceError, match="No depth map was scored"):
        DepthMeter().compute()


@pytest.mark.parametrize(
    "units", [("disparity", "metres"), ("metres", "disparity"), ("disparity", "disparity")]
)
def test_where_one_side_has_no_metres_only_order_is_scored(units):
    """A map of 1, 2, 4 and 8 m, and the inverse of these at another scale, are the same map."""
    metres_HW = np.array([[1, 2], [4, 8]], np.float32)
    maps = {"metres": metres_HW, "disparity": 30 / metres_HW}
    predicted, truth = (DepthMap(values_HW=maps[unit], unit=unit) for unit in units)
    meter = DepthMapMeter(metric=False)
    meter.update(predicted, truth)
    assert meter.compute() == {"ordinal": 1.0, "count": 1}
    meter.update(attrs.evolve(predicted, values_HW=predicted.values_HW[::-1, ::-1].copy()), truth)
    assert meter.compute() == {"ordinal": pytest.approx(0.5, abs=0.02), "count": 2}
    with pytest.raises(InterfaceError, match="errors are of metres; ask for a meter with metric=False"):
        DepthMapMeter(metric=True).update(predicted, truth)


def test_a_map_in_metres_is_scored_in_metres_at_its_own_size():
    truth = DepthMap(values_HW=np.full((4, 8), 2.0, np.float32), unit="metres")
    meter = DepthMapMeter(metric=True)
    first, second = (
        meter.update(DepthMap(values_HW=np.full((2, 2), metres, np.float32), unit="metres"), truth)
        for metres in (2.2, 2.6)
    )
    assert (first["absrel"], second["absrel"]) == (pytest.approx(0.1), pytest.approx(0.3))
    assert math.isnan(first["ordinal"])  # A flat map has no pair in order.
    assert meter.compute()["absrel"] == pytest.approx(0.2)
