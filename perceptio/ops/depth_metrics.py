"""Figures of depth maps against ground truth.

Errors are those of monocular depth estimation since Eigen et al. (arXiv 1406.2283), in metres over known pixels and
without any alignment, if both sides are in metres. Ordinal accuracy only asks which of two pixels is nearer, which
relative depth can answer, too: it is the only figure if one side is not in metres.

Shapes: B maps, H W pixels, P pairs.
"""

import math
from typing import Any

import torch
from torch import Tensor

from perceptio.errors import InterfaceError
from perceptio.interfaces import DepthConvention, DepthMap
from perceptio.interfaces.depth_maps import from_map
from perceptio.interfaces.maps import resize_maps

NEAREST_M = 1e-3
"""Lower bound on predictions in metres before ratios are computed."""
PAIRS = 1000
"""Number of pairs of pixels drawn from each map for ordinal accuracy."""
MARGIN = 1.08
"""Pairs count when their true depths differ by this ratio or more (ours; AURORA asks for 20 of 255 gray levels)."""
RELATIVE_MARGIN = 20 / 255
"""Pairs of relative depth count when they differ by this much or more (AURORA's 20 of 255 gray levels)."""


class DepthMeter:
    """Errors of depth in metres, averaged over each map's known pixels, then over maps.

    Args:
        metric: Whether both sides are in metres. Otherwise they are distances of some scale, as `distances` returns
            for relative depth, and only figures that need no metres are computed.

    Example:
        meter = DepthMeter()
        meter.update(torch.full((1, 1, 2, 2), 2.2), torch.full((1, 1, 2, 2), 2.0))
        meter.compute()["absrel"]  # 0.1
    """

    def __init__(self, *, metric: bool = True) -> None:
        self.metric = metric
        self._sums = {name: 0.0 for name in ("absrel", "rmse", "rmse_log", "delta1", "delta2", "delta3")}
        self._count = 0
        self._ordered = self._pairs = 0
        self._generator = torch.Generator().manual_seed(0)

    def update(self, predicted_B1HW: Tensor, target_B1HW: Tensor) -> dict[str, list[float]]:
        """Add maps in metres, or distances of some scale; NaN marks unknown pixels of the target.

        Returns:
            The figures of each of these maps; `ordinal` is NaN if none of its pairs counts.

        Raises:
            InterfaceError: The sizes differ, a prediction is not finite, or a target has no known pixel.
        """
        if predicted_B1HW.shape != target_B1HW.shape:
            raise InterfaceError(
                f"Depth of shape {list(predicted_B1HW.shape)} was given for a target of shape "
                f"{list(target_B1HW.shape)}; resize one to the other first."
            )
        predicted_BP = predicted_B1HW.flatten(1).double().clamp_min(NEAREST_M)
        target_BP = target_B1HW.flatten(1).double()
        known_BP = ~target_BP.isnan()
        figures = depth_errors(predicted_BP, target_BP)
        target_BP = torch.where(known_BP, target_BP, predicted_BP)
        of_each = {name: values_B.tolist() for name, values_B in figures.items()} if self.metric else {}
        for name, values_B in figures.items():
            self._sums[name] += float(values_B.sum())
        self._count += len(predicted_BP)
        return of_each | {"ordinal": self._update_order(predicted_BP, target_BP, known_BP)}

    def _update_order(self, predicted_BP: Tensor, target_BP: Tensor, known_BP: Tensor) -> list[float]:
        first_P, second_P = torch.randint(target_BP.shape[1], (2, PAIRS), generator=self._generator)
        true_BP = target_BP[:, first_P] / target_BP[:, second_P]
        counted_BP = known_BP[:, first_P] & known_BP[:, second_P]
        counted_BP &= torch.maximum(true_BP, 1 / true_BP) >= MARGIN
        written_BP = predicted_BP[:, first_P] / predicted_BP[:, second_P]
        right_BP = torch.where(true_BP > 1, written_BP > 1, written_BP < 1) & counted_BP
        right_B, counted_B = right_BP.sum(1), counted_BP.sum(1)
        self._ordered += int(right_B.sum())
        self._pairs += int(counted_B.sum())
        return (right_B / counted_B).tolist()

    def compute(self) -> dict[str, Any]:
        """Return `absrel`, `rmse` (m), `rmse_log`, `delta1..3` and `ordinal` (shares in [0, 1]), and `count` maps.

        Without metres, only `ordinal` and `count`.

        Raises:
            InterfaceError: No map was added.
        """
        if not self._count:
            raise InterfaceError("No depth map was scored.")
        errors: dict[str, Any] = {name: total / self._count for name, total in self._sums.items()}
        return (errors if self.metric else {}) | {
            "ordinal": self._ordered / max(self._pairs, 1),
            "count": self._count,
        }


def depth_errors(predicted_BP: Tensor, target_BP: Tensor) -> dict[str, Tensor]:
    """Return the errors [B] of depth in metres, each the mean over the known pixels of a map.

    Args:
        predicted_BP: The prediction; values below `NEAREST_M` are raised to it.
        target_BP: The ground truth, NaN where unknown.

    Returns:
        `absrel`; `rmse` in metres; `rmse_log`; and `delta1` to `delta3`, the shares of pixels whose ratio to the
        ground truth is below 1.25, 1.25^2 and 1.25^3.

    Raises:
        InterfaceError: A prediction is not finite, or a target has no known pixel.
    """
    predicted_BP, target_BP = predicted_BP.double().clamp_min(NEAREST_M), target_BP.double()
    known_BP = ~target_BP.isnan()
    if not bool(predicted_BP.isfinite().all()) or not bool(known_BP.any(1).all()):
        raise InterfaceError("A predicted depth map is not finite, or a target has no known pixel.")
    target_BP = torch.where(known_BP, target_BP, predicted_BP)
    count_B = known_BP.sum(1)

    def mean(values_BP: Tensor) -> Tensor:
        return (values_BP * known_BP).sum(1) / count_B

    error_BP = predicted_BP - target_BP
    ratio_BP = torch.maximum(predicted_BP / target_BP, target_BP / predicted_BP)
    return {
        "absrel": mean(error_BP.abs() / target_BP),
        "rmse": mean(error_BP.square()).sqrt(),
        "rmse_log": mean((predicted_BP / target_BP).log().square()).sqrt(),
        **{f"delta{power}": mean((ratio_BP < 1.25**power).double()) for power in (1, 2, 3)},
    }


class DepthMapMeter:
    """Figures of whole maps, each with its own unit.

    Args:
        metric: Whether all predictions and ground truths are in metres.
    """

    def __init__(self, *, metric: bool) -> None:
        self._meter = DepthMeter(metric=metric)

    def update(self, predicted: DepthMap, truth: DepthMap) -> dict[str, float]:
        """Add a map and its ground truth, which is resized to the map's size.

        Returns:
            Its figures; see `DepthMeter.update`.

        Raises:
            InterfaceError: Errors in metres are requested, and one of the two is not in metres.
            DataError: A map has no known pixel.
        """
        if self._meter.metric and not predicted.unit == truth.unit == "metres":
            raise InterfaceError(
                f"A map in {predicted.unit} was given for a truth in {truth.unit}: errors are of metres; ask for a "
                "meter with metric=False."
            )
        height, width = predicted.values_HW.shape
        figures = self._meter.update(distances(predicted), resize_maps(distances(truth), (height, width)))
        return {name: value for name, (value,) in figures.items()}

    def compute(self) -> dict[str, Any]:
        """See `DepthMeter.compute`."""
        return self._meter.compute()


def distances(depth: DepthMap) -> Tensor:
    """Return a map as [1, 1, H, W] that increases with distance: in metres, or for disparity without a unit."""
    if depth.unit == "metres":
        return torch.from_numpy(depth.values_HW)[None, None].float()
    return unit_distances(from_map(depth, DepthConvention()), DepthConvention())


def unit_distances(unit_B1HW: Tensor, convention: DepthConvention) -> Tensor:
    """Return depth in a convention's [0, 1] as values that increase with distance: metres if it has them.

    Otherwise the values have the same order, and `RELATIVE_MARGIN` corresponds to the meter's `MARGIN`.
    """
    if convention.metric:
        return convention.to_metres(unit_B1HW)
    return torch.exp(-unit_B1HW * (math.log(MARGIN) / RELATIVE_MARGIN))
