"""What a depth value means, and depth maps in a convention's [0, 1].

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
    """Depth of one image as float32 [H, W], NaN where unknown.

    `unit` is `"metres"`, or `"disparity"` for a relative inverse depth of any scale (near is large).
    """

    values_HW: np.ndarray
    unit: Literal["metres", "disparity"]


@attrs.frozen(kw_only=True)
class DepthConvention:
    """What a depth value in [0, 1] means.

    Relative (`near_m` and `far_m` are None): inverse depth, scaled by each image's own minimum and maximum, near
    is one, as a disparity teacher such as Depth Anything V2 gives it; it has no metres. Metric: far is one,
    logarithmic between `near_m` and `far_m` metres, so that equal steps are equal ratios.
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
        """Whether values can be turned into metres."""
        return self.near_m is not None

    def to_metres(self, unit: Tensor) -> Tensor:
        """Values in [0, 1] to metres; NaN stays NaN.

        Raises:
            DataError: The convention is relative.
        """
        near, ratio = self._range()
        return near * torch.exp(unit * ratio)

    def from_metres(self, metres: Tensor) -> Tensor:
        """Metres to values in [0, 1], clipped to the range; NaN stays NaN.

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
    """Refuse a map whose known pixels are no depths: metres are above 0, disparity at least 0, and both finite.

    Raises:
        DataError: A known pixel is none, or no pixel is known; the message begins with `name`.
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
    """A depth map as [1, 1, H, W] in [0, 1] under a convention, NaN where unknown.

    A metric convention needs metres. A relative one takes either unit: disparity as it is, metres as their inverse,
    and scales it by the map's own minimum and maximum; a flat map becomes 0.5.

    Raises:
        DataError: The convention is metric and the map is not, no pixel is known, or a known one is no depth.
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
    """Depth maps [B, 1, *size] in [0, 1] under a convention, on a device; NaN where unknown, as all of None is.

    Raises:
        DataError: As `from_map`.
    """
    stretched = (
        None if depth is None else resize_maps(from_map(depth, convention).to(device), size)[0]
        for depth in maps
    )
    return stack_known(stretched, (1, *size), device)


def to_maps(depth_B1HW: Tensor, convention: DepthConvention) -> list[DepthMap]:
    """Depth in [0, 1] under a convention as depth maps: in metres where it has them, else disparity."""
    depth_B1HW = depth_B1HW.float()
    values_B1HW = convention.to_metres(depth_B1HW) if convention.metric else depth_B1HW
    unit: Literal["metres", "disparity"] = "metres" if convention.metric else "disparity"
    return [DepthMap(values_HW=values_1HW[0], unit=unit) for values_1HW in values_B1HW.cpu().numpy()]
