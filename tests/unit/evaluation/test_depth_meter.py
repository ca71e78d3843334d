import math

import pytest
import torch

from perceptio.errors import InterfaceError
from perceptio.evaluation.depth import DepthMeter, code_usage

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


def test_code_usage():
    assert code_usage(torch.tensor([[0, 0, 3, 3]]), 8) == {"codes_used": 2, "perplexity": pytest.approx(2.0)}
