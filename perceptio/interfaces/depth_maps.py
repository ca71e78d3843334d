"""Depth maps, and the conventions that map depth values to [0, 1].

Shapes: B batch, H W pixels.
"""

import math
from collections.abc import Sequence
from typing import Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.errors import DataError
from perceptio.interfaces.maps import resize_maps, stack_known


@attrs.frozen(kw_only=True, eq=False)
class DepthMap:
    """The depth of one image as float32 [H, W], NaN where unknown.

    `unit` is `"metres"`, or `"disparity"` for relative inverse depth of any scale, in which near is large.
    """

    values_HW: np.ndarray
    unit: Literal["metres", "disparity"]


@attrs.frozen(kw_only=True)
class DepthConvention:
    """What a depth value in [0, 1] means.

    Relative convention (`near_m` and `far_m` are None): inverse depth, scaled by the minimum and maximum of each
    image; the nearest pixel is 1. Disparity teachers such as Depth Anything V2 give such maps. They cannot be
    converted to metres.

    Metric convention: logarithmic between `near_m` (0) and `far_m` (1) metres, so that equal steps are equal ratios.
    """

    near_m: float | None = None
    far_m: float | None = None

    def __attrs_post_init__(self) -> None:
        if (self.near_m is None) != (self.far_m is None):
            raise ValueError(
                "A metric depth convention needs both near_m and far_m; a relative one has neither."
            )
        if self.near_m is not None and self.far_m is not None and not 0 < self.near_m < self.far_m:
            raise ValueError(f"near_m ({self.near_m}) must be above 0 and below far_m ({self.far_m}).")

    @property
    def metric(self) -> bool:
        """Whether values can be converted to metres."""
        return self.near_m is not None

    def to_metres(self, unit: Tensor) -> Tensor:
        """Convert values in [0, 1] to metres; NaN stays NaN.

        Raises:
            DataError: The convention is relative.
        """
        near, ratio = self._range()
        return near * torch.exp(unit * ratio)

    def from_metres(self, metres: Tensor) -> Tensor:
        """Convert metres to values in [0, 1], clipped to this range; NaN stays NaN.

        Raises:
            DataError: The convention is relative.
        """
        near, ratio = self._range()
        return (torch.log(metres / near) / ratio).clamp(0.0, 1.0)

    def _range(self) -> tuple[float, float]:
        if self.near_m is None or self.far_m is None:
            raise DataError("Relative depth has no metres: use a depth tokenizer with a metric convention.")
        return self.near_m, math.log(self.far_m / self.near_m)


def check_values(depth: DepthMap, name: str) -> None:
    """Check that the known pixels of a map are finite, and above 0 in metres or at least 0 in disparity.

    Raises:
        DataError: A known pixel violates this, or no pixel is known. The message begins with `name`.
    """
    known_N = depth.values_HW[~np.isnan(depth.values_HW)]
    if not known_N.size:
        raise DataError(f"{name} has no known pixel: leave it out.")
    low, high = float(known_N.min()), float(known_N.max())
    if low < 0 or math.isinf(high) or (depth.unit == "metres" and low == 0):
        raise DataError(
            f"{name} has depths from {low:g} to {high:g} {depth.unit}: mark unknown pixels with NaN (NPY) or 0 (PNG)."
        )


def from_map(depth: DepthMap, convention: DepthConvention) -> Tensor:
    """Convert a depth map to [1, 1, H, W] in [0, 1] under a convention, NaN where unknown.

    A metric convention needs a map in metres. A relative convention accepts both units: it inverts metres, leaves
    disparity unchanged, and then scales the map by its own minimum and maximum. A flat map becomes 0.5.

    Raises:
        DataError: The convention is metric and the map is not, no pixel is known, or a known value is not a depth
            (see `check_values`).
    """
    check_values(depth, "A depth map")
    values_11HW = torch.from_numpy(depth.values_HW).float()[None, None]
    known = ~values_11HW.isnan()
    if convention.metric:
        if depth.unit != "metres":
            raise DataError(
                f"The depth tokenizer speaks of metres and the depth map of {depth.unit}, which has none: give depth "
                "in metres, or use a depth tokenizer with a relative convention."
            )
        return convention.from_metres(values_11HW)
    disparity = values_11HW if depth.unit == "disparity" else 1.0 / values_11HW
    low, high = disparity[known].min(), disparity[known].max()
    if low == high:
        return torch.where(known, 0.5, disparity)
    return (disparity - low) / (high - low)


def stack_depth(
    maps: Sequence[DepthMap | None], convention: DepthConvention, size: tuple[int, int], device: torch.device
) -> Tensor:
    """Convert and stack depth maps to [B, 1, *size] in [0, 1] under a convention, on a device.

    Unknown pixels are NaN, and so is the whole map of a None.

    Raises:
        DataError: As `from_map`.
    """
    stretched = (
        None if depth is None else resize_maps(from_map(depth, convention).to(device), size)[0]
        for depth in maps
    )
    return stack_known(stretched, (1, *size), device)


def to_maps(depth_B1HW: Tensor, convention: DepthConvention) -> list[DepthMap]:
    """Convert depth in [0, 1] to depth maps, in metres under a metric convention and in disparity otherwise."""
    depth_B1HW = depth_B1HW.float()
    values_B1HW = convention.to_metres(depth_B1HW) if convention.metric else depth_B1HW
    unit: Literal["metres", "disparity"] = "metres" if convention.metric else "disparity"
    return [DepthMap(values_HW=values_1HW[0], unit=unit) for values_1HW in values_B1HW.cpu().numpy()]
