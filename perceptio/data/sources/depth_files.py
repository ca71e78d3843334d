"""Depth maps as others publish them: which can be referred to unchanged, and which must be written anew.

A data folder reads 16-bit gray PNG with 0 for unknown depth, and floating-point NPY [H, W] with NaN. Maps that mark
unknown depth in another way, or need a cutoff or a mask, are written into the folder.

Shapes: H W pixels.
"""

from pathlib import Path
from typing import Literal

import attrs
import numpy as np
from PIL import Image

from perceptio.data.folder.loading import DEPTH_LEVELS
from perceptio.errors import DataError, InputError
from perceptio.interfaces import DepthMap
from perceptio.ops.array_files import mapped_array
from perceptio.ops.files import new_file
from perceptio.ops.image_files import open_image

_GRAY_MODES = ("L", "I;16", "I;16B", "I")


@attrs.frozen(kw_only=True)
class DepthFormat:
    """The meaning of the values in a depth file.

    Attributes:
        unit: `metres`, or `disparity`: inverse depth of any scale.
        scale: Factor from a stored value to the unit.
        unknown: Stored values that mean unknown depth; NaN always does.
        farthest: Distance in metres beyond which depth is unknown; None: no limit.
    """

    unit: Literal["metres", "disparity"] = "metres"
    scale: float = 1.0
    unknown: tuple[float, ...] = (0.0,)
    farthest: float | None = None


@attrs.frozen(kw_only=True)
class DepthFile:
    """A depth file whose header was read.

    Attributes:
        path: The file.
        size: Height and width.
        fits: Whether a data folder can refer to it unchanged, as far as the file format is concerned.
    """

    path: Path
    size: tuple[int, int]
    fits: bool

    @classmethod
    def open(cls, path: Path) -> "DepthFile":
        """Read the header of a gray PNG or of an NPY file [H, W] or [H, W, 1].

        Raises:
            DataError: It is neither.
        """
        if path.suffix.lower() == ".npy":
            stored = mapped_array(path)
            shape = stored.shape
            if len(shape) not in (2, 3) or shape[2:] not in ((), (1,)) or stored.dtype.kind not in "fui":
                raise DataError(
                    f"{path} holds {stored.dtype} {list(shape)}: depth is [height, width] of numbers."
                )
            return cls(
                path=path, size=(shape[0], shape[1]), fits=len(shape) == 2 and stored.dtype.kind == "f"
            )
        try:
            with open_image(path, save_as="16-bit gray PNG", min_side=1) as picture:
                if picture.mode not in _GRAY_MODES:
                    raise DataError(
                        f"{path} is {picture.format} of mode {picture.mode}: depth is a gray PNG, or NPY."
                    )
                fits = picture.format == "PNG" and picture.mode != "L"
                return cls(path=path, size=(picture.height, picture.width), fits=fits)
        except InputError as error:
            raise DataError(str(error)) from error

    def can_stay(self, format: DepthFormat) -> bool:
        """Return whether a data folder with the unit and scale of the format can read it unchanged."""
        if not self.fits or format.farthest is not None:
            return False
        if self.path.suffix.lower() == ".npy":
            return format.scale == 1 and not format.unknown
        return set(format.unknown) == {0}

    def read(self, format: DepthFormat, mask: Path | None = None) -> DepthMap:
        """Return the depth, NaN where unknown, which may be everywhere.

        Args:
            format: The meaning of its values.
            mask: An NPY file or gray image of the same size that is 0 where depth is unknown.

        Raises:
            DataError: The file or the mask is broken, or the mask has another size.
        """
        stored_HW = _numbers(self.path)
        # Values that are too large become infinite, which is refused; a signaling NaN becomes NaN.
        with np.errstate(over="ignore", invalid="ignore"):
            values_HW = stored_HW.astype(np.float32) * np.float32(format.scale)
        for code in format.unknown:
            values_HW[stored_HW == code] = np.nan
        if format.farthest is not None:
            values_HW[values_HW > format.farthest] = np.nan
        if mask is not None:
            valid_HW = _numbers(mask)
            if valid_HW.shape != values_HW.shape:
                raise DataError(
                    f"{mask} is {_extent(valid_HW.shape)}, and its depth {self.path} {_extent(values_HW.shape)}."
                )
            values_HW[valid_HW == 0] = np.nan
        return DepthMap(values_HW=values_HW, unit=format.unit)


def write_depth(depth: DepthMap, scale: float | None, folder: Path, name: str) -> str:
    """Write a depth map for a data folder: as a 16-bit PNG if that represents every value exactly, otherwise as NPY.

    An existing file is not changed.

    Args:
        depth: The map.
        scale: Factor of 16-bit values in the folder; None: it has no PNGs.
        folder: The data folder.
        name: The path of the file in it, without suffix.

    Returns:
        Its path in the folder.

    Raises:
        OSError: It cannot be written.
    """
    levels_HW = None if scale is None else _levels(depth.values_HW, scale)
    path = f"{name}.{'npy' if levels_HW is None else 'png'}"
    if not (folder / path).exists():
        with new_file(folder / path) as new:
            if levels_HW is None:
                np.save(new, depth.values_HW.astype(np.float32))
            else:
                Image.fromarray(levels_HW).save(new, compress_level=1)
    return path


def _levels(values_HW: np.ndarray, scale: float) -> np.ndarray | None:
    """Return the 16-bit values [H, W] of a map, 0 where unknown; None if they are not exact."""
    known_HW = ~np.isnan(values_HW)
    levels_HW = np.where(known_HW, np.rint(values_HW / scale), 0)
    if levels_HW.max() > DEPTH_LEVELS or (levels_HW[known_HW] < 1).any():
        return None
    if not np.array_equal(levels_HW.astype(np.float32)[known_HW] * np.float32(scale), values_HW[known_HW]):
        return None
    return levels_HW.astype(np.uint16)


def _numbers(path: Path) -> np.ndarray:
    """Return the values [H, W] of an NPY file or a gray image."""
    if path.suffix.lower() == ".npy":
        stored = np.asarray(mapped_array(path))
        return stored[..., 0] if stored.ndim == 3 else stored
    try:
        with open_image(path, save_as="16-bit gray PNG", min_side=1) as picture:
            return np.asarray(picture)
    except InputError as error:
        raise DataError(str(error)) from error


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} pixels"
