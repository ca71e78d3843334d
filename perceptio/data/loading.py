"""The files of one sample -> arrays, with every rule that files can break.

Shapes: H W pixels of the picture.
"""

from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from perceptio.data.records import LINES_FILE, DatasetInfo, Problem, RunLengths, SampleRecord
from perceptio.errors import DataError, InputError
from perceptio.interfaces import DepthMap
from perceptio.ops.depth_maps import check_values
from perceptio.ops.image_files import read_image

DEPTH_LEVELS = 65535


@attrs.frozen(kw_only=True, eq=False)
class LoadedFiles:
    """What the files of a sample hold; None where it has no such file, or one that is broken."""

    image_3HW: Tensor | None
    depth: DepthMap | None
    masks: Mapping[int, np.ndarray] | None


def load_files(root: Path, info: DatasetInfo, record: SampleRecord, problems: list[Problem]) -> LoadedFiles:
    """Read the picture, depth and masks of a sample, adding what is wrong with them to `problems`."""

    def report(file: str, message: str) -> None:
        problems.append(Problem(file=file, line=record.line, message=message.removeprefix(f"{root / file} ")))

    image = depth = masks = None
    try:
        image = read_image(root / record.image)
    except InputError as error:
        report(record.image, str(error))
    if record.depth is not None:
        try:
            depth = read_depth(root / record.depth, info)
        except DataError as error:
            report(record.depth, str(error))
    if record.masks is not None:
        try:
            masks = _read_masks(root, record.masks)
        except DataError as error:
            report(str(record.masks), str(error))

    size = None if image is None else tuple(image.shape[-2:])
    if size and depth is not None and depth.values_HW.shape != size:
        report(str(record.depth), f"is {_extent(depth.values_HW.shape)}, and its picture {_extent(size)}.")
    where = record.masks if isinstance(record.masks, str) else LINES_FILE
    if masks is not None:
        other = next((mask.shape for mask in masks.values() if size and mask.shape != size), None)
        if other is not None and size:
            report(where, f"masks are {_extent(other)}, and the picture {_extent(size)}.")
        asked = {number for turn in record.turns for number in turn.objects}
        missing = sorted(asked - {number for number, mask in masks.items() if mask.any()})
        if missing:
            known = ", ".join(map(str, sorted(masks))) or "none"
            report(where, f"has no pixel of object(s) {missing} that a turn segments; it has: {known}.")
    return LoadedFiles(image_3HW=image, depth=depth, masks=masks)


def read_depth(path: Path, info: DatasetInfo) -> DepthMap:
    """A depth map in the unit of its folder, NaN where unknown.

    Raises:
        DataError: The file is missing or broken, of another kind than 16-bit gray PNG or float32 NPY, or has no
            known pixel, a negative or an infinite one; or the folder states no unit or scale.
    """
    if info.depth_unit is None:
        raise DataError(f"{path} cannot be understood: dataset.json states no depth unit.")
    if not path.is_file():
        raise DataError(f"{path} does not exist.")
    values_HW = _read_npy(path) if path.suffix == ".npy" else _read_depth_png(path, info.depth_scale)
    depth = DepthMap(values_HW=values_HW, unit=info.depth_unit)
    check_values(depth, str(path))
    return depth


def _read_npy(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as NPY ({error}).") from None
    if values.ndim != 2 or values.dtype.kind != "f":
        raise DataError(f"{path} holds {values.dtype} {list(values.shape)}: write float32 [height, width].")
    return values.astype(np.float32)


def _read_depth_png(path: Path, scale: float | None) -> np.ndarray:
    if scale is None:
        raise DataError(f"{path} is a PNG, and dataset.json states no depth scale: add one, or write NPY.")
    stored_HW = _read_gray(path, "depth", ("I;16", "I;16B", "I"))
    values_HW = stored_HW.astype(np.float32) * np.float32(scale)
    values_HW[stored_HW == 0] = np.nan
    return values_HW


def _read_gray(path: Path, what: str, modes: tuple[str, ...]) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            if picture.format != "PNG" or picture.mode not in modes:
                bits = "16-bit gray" if what == "depth" else "indexed or gray"
                raise DataError(
                    f"{path} is {picture.format} of mode {picture.mode}: write {what} as {bits} PNG."
                )
            return np.asarray(picture)
    except UnidentifiedImageError:
        raise DataError(f"{path} is no picture: write {what} as PNG.") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read to its end ({error}).") from None


def _read_masks(root: Path, masks: str | tuple[RunLengths, ...]) -> dict[int, np.ndarray]:
    if not isinstance(masks, str):
        return {mask.id: decode_runs(mask) for mask in masks}
    path = root / masks
    if not path.is_file():
        raise DataError(f"{path} does not exist.")
    ids_HW = _read_gray(path, "masks", ("P", "L", "I;16", "1"))
    return {int(number): ids_HW == number for number in np.unique(ids_HW) if number}


def decode_runs(runs: RunLengths) -> np.ndarray:
    """A boolean mask [H, W] of runs down the columns, zeros first."""
    values = np.arange(len(runs.counts)) % 2 == 1
    height, width = runs.size
    return np.repeat(values, runs.counts).reshape(width, height).T


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} pixels"
