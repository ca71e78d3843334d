"""A teacher's depth in the 16 bits in which it is stored.

Disparity is scaled to each map's own minimum and maximum, which is all that a relative depth convention uses, and a
flat map is stored as one middle value. Metres are stored without normalization; too distant values become unknown.

Shapes: H W pixels.
"""

import numpy as np

from perceptio.data.folder.dataset_info import DatasetInfo
from perceptio.data.folder.loading import DEPTH_LEVELS
from perceptio.interfaces import TeacherSpec

FLAT = 1e-6
"""A map is flat if its values differ by less than this share of them, as the rest is rounding."""


def info_of(spec: TeacherSpec) -> DatasetInfo:
    """Return the meaning of the stored values."""
    full = 1.0 if spec.unit == "disparity" else spec.farthest_m
    return DatasetInfo(depth_unit=spec.unit, depth_scale=full / DEPTH_LEVELS)


def normalization_of(spec: TeacherSpec) -> str:
    """Return a description, for the record, of how depth becomes stored values."""
    if spec.unit == "disparity":
        return f"each map from its own minimum and maximum to 1 and {DEPTH_LEVELS}, flat maps to the middle"
    return f"metres, {spec.farthest_m:g} at {DEPTH_LEVELS}; what lies farther is unknown"


def problem(depth_HW: np.ndarray, spec: TeacherSpec) -> str | None:
    """Return why a map cannot be stored as depth; None if it can.

    Returns:
        Words that complete "the teacher gives depth that ...".
    """
    if not np.isfinite(depth_HW).all():
        return "is no number"
    if spec.unit == "metres":
        least = float(depth_HW.min())
        if least <= 0:
            return f"goes down to {least:g} metres"
        if least > spec.farthest_m:
            return f"is farther than {spec.farthest_m:g} metres everywhere"
    return None


def is_flat(depth_HW: np.ndarray) -> bool:
    """Return whether a map has the same depth everywhere."""
    low, high = float(depth_HW.min()), float(depth_HW.max())
    return high - low <= FLAT * max(abs(low), abs(high))


def to_levels(depth_HW: np.ndarray, spec: TeacherSpec) -> np.ndarray:
    """Return a map in its stored form, uint16.

    For disparity, the minimum becomes 1 and the maximum 65535; a flat map becomes 32768. For metres, `farthest_m`
    becomes 65535, and greater distances 0.
    """
    depth_HW = depth_HW.astype(np.float64)
    if spec.unit == "metres":
        levels_HW = np.rint(depth_HW * (DEPTH_LEVELS / spec.farthest_m)).clip(1, DEPTH_LEVELS)
        return np.where(depth_HW > spec.farthest_m, 0, levels_HW).astype(np.uint16)
    if is_flat(depth_HW):
        return np.full(depth_HW.shape, (1 + DEPTH_LEVELS) // 2, dtype=np.uint16)
    low, high = depth_HW.min(), depth_HW.max()
    return np.rint(1 + (depth_HW - low) / (high - low) * (DEPTH_LEVELS - 1)).astype(np.uint16)
