"""Functions for dense maps [T, C, H, W] of any kind, in which NaN marks unknown values.

Shapes: T maps, C channels, H W pixels.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import DataError


@attrs.frozen(kw_only=True)
class MapInfo:
    """What a named map of the samples holds: one or three channels per pixel, with values from `low` to `high`."""

    channels: int
    low: float
    high: float


def resize_maps(maps_TCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps to [T, C, *size]: each new value is a weighted mean of the known values that it covers.

    Maps are averaged over areas when they shrink and interpolated when they grow. A new value that covers no known
    value is NaN.
    """
    if tuple(maps_TCHW.shape[-2:]) == tuple(size):
        return maps_TCHW
    known_TCHW = (~maps_TCHW.isnan()).to(maps_TCHW.dtype)
    weight_TCHW = _resample(known_TCHW, size)
    total_TCHW = _resample(maps_TCHW.nan_to_num(0.0), size)
    unknown = torch.full_like(total_TCHW, float("nan"))
    return torch.where(weight_TCHW > 1e-3, total_TCHW / weight_TCHW.clamp_min(1e-3), unknown)


def at_sizes(maps_TCHW: Tensor, sizes: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """Yield each map interpolated to its own size, as float32 [C, height, width]; the maps must not hold NaN."""
    for map_CHW, size in zip(maps_TCHW, sizes, strict=True):
        yield F.interpolate(map_CHW[None].float(), size=size, mode="bilinear", align_corners=False)[0]


def stack_known(maps: Iterable[Tensor | None], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Stack maps of one shape to a tensor [T, *shape]; a None becomes NaN on `device`, where all maps must be."""
    unknown = torch.full(shape, math.nan, device=device)
    stacked = [unknown if one is None else one for one in maps]
    return torch.stack(stacked) if stacked else unknown.new_zeros(0, *shape)


def pixels_at(maps_NHW: Tensor, points_NP2: Tensor) -> Tensor:
    """Return the values [N, P] of the pixels that contain points (x, y) in [0, 1]; nothing waits for the device."""
    height, width = maps_NHW.shape[-2:]
    columns_NP, rows_NP = (
        (points_NP2[..., axis] * size).long().clamp(0, size - 1) for axis, size in ((0, width), (1, height))
    )
    return maps_NHW.flatten(1).gather(1, rows_NP * width + columns_NP)


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Return the intersection over union [...] of boolean areas [..., P]; two empty areas have 1."""
    union = (one | other).sum(-1)
    return torch.where(union > 0, (one & other).sum(-1) / union.clamp(min=1), 1.0)


def covered_cells(covered: Tensor) -> Tensor:
    """Return which cells [..., P], boolean, form the coarse mask of an object that covers these shares of them.

    The mask has every cell of which the object covers more than half. If there is none, it has the cells with the
    largest share. So only the mask of an empty object is empty, and an empty prediction for a small object is wrong.

    Args:
        covered: The share of each cell that the object covers, in [0, 1], of shape [..., P].
    """
    most = covered.amax(-1, keepdim=True)
    return torch.where(most > 0.5, covered > 0.5, (covered == most) & (most > 0))


def _resample(values_TCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample bilinearly with a kernel as wide as a new pixel; its weights are positive, so values stay in range."""
    return F.interpolate(values_TCHW, size=size, mode="bilinear", antialias=True, align_corners=False)


def fill_unknown(maps_TCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Replace NaN with the mean of the known values of the same map and channel.

    Returns:
        The filled maps and a boolean tensor of the values that were known, both [T, C, H, W].

    Raises:
        DataError: A channel of a map has no known value.
    """
    known_TCHW = ~maps_TCHW.isnan()
    counts_TC = known_TCHW.flatten(2).sum(2)
    if not bool((counts_TC > 0).all()):
        empty = (counts_TC == 0).any(1).nonzero().flatten().tolist()
        raise DataError(
            "Every channel of a map needs a known pixel. These maps of the batch, by index, lack one: "
            f"{empty}. Leave them out."
        )
    mean_TC11 = maps_TCHW.nan_to_num(0.0).flatten(2).sum(2).div(counts_TC)[..., None, None]
    return torch.where(known_TCHW, maps_TCHW, mean_TC11), known_TCHW


def clip_unit(values: Tensor) -> Tensor:
    """Clip to [0, 1] in the forward pass and pass the gradient through unchanged."""
    return values + (values.clamp(0.0, 1.0) - values).detach()
