"""The files of one sample -> arrays, with every rule that files can break.

Shapes: H W pixels of the picture.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import numpy as np
from torch import Tensor

from perceptio.data.records import LINES_FILE, DatasetInfo, Problem, RunLengths, SampleRecord
from perceptio.errors import DataError, InputError
from perceptio.interfaces import DepthMap
from perceptio.ops.array_files import mapped_array
from perceptio.interfaces.depth_maps import check_values
from perceptio.ops.image_files import MAX_PIXELS, open_image, read_image
from perceptio.ops.paths import resolved_inside

DEPTH_LEVELS = 65535

Size = tuple[int, int]
"""Height and width."""


class Masks(Mapping[int, np.ndarray]):
    """The objects of a sample by number, each decoded to a boolean [H, W] when it is asked for.

    Args:
        ids_HW: The number of the object that each pixel shows; or None.
        runs: Objects as runs.
    """

    def __init__(self, ids_HW: np.ndarray | None = None, runs: tuple[RunLengths, ...] = ()) -> None:
        self._ids_HW, self._runs = ids_HW, {mask.id: mask for mask in runs}
        ids = [] if ids_HW is None else np.unique(ids_HW).tolist()
        self._numbers = dict.fromkeys([int(number) for number in ids if number] or self._runs)

    def __getitem__(self, number: int) -> np.ndarray:
        if self._ids_HW is None:
            return decode_runs(self._runs[number])
        if number not in self._numbers:
            raise KeyError(number)
        return self._ids_HW == number

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def shows(self, number: int) -> bool:
        """Whether an object has a pixel."""
        return number in self._numbers and (number not in self._runs or any(self._runs[number].counts[1::2]))


@attrs.frozen(kw_only=True, eq=False)
class LoadedFiles:
    """What the files of a sample hold; None where it has no such file, or one that is broken."""

    image_3HW: Tensor | None
    depth: DepthMap | None
    masks: Masks | None


def load_files(root: Path, info: DatasetInfo, record: SampleRecord, problems: list[Problem]) -> LoadedFiles:
    """Read the picture, depth and masks of a sample, adding what is wrong with them to `problems`."""

    def report(file: str, message: str) -> None:
        problems.append(Problem(file=file, line=record.line, message=message.removeprefix(f"{root / file} ")))

    image = depth = masks = None
    try:
        image = read_picture(root, record.image)
    except DataError as error:
        report(record.image, str(error))
    size: Size | None = None if image is None else (image.shape[-2], image.shape[-1])
    if record.depth is not None:
        try:
            depth = read_depth(resolved_inside(root, record.depth, DataError), info, size)
        except DataError as error:
            report(record.depth, str(error))
    where = record.masks if isinstance(record.masks, str) else LINES_FILE
    if record.masks is not None:
        try:
            masks = _read_masks(root, record.masks, size)
        except DataError as error:
            report(where, str(error))
    if masks is not None:
        asked = {number for turn in record.turns for number in turn.objects}
        missing = sorted(number for number in asked if not masks.shows(number))
        if missing:
            known = ", ".join(map(str, sorted(masks)[:20])) or "none"
            report(where, f"has no pixel of object(s) {missing} that a turn segments; it has: {known}.")
    return LoadedFiles(image_3HW=image, depth=depth, masks=masks)


def read_picture(root: Path, image: str) -> Tensor:
    """The picture of a sample, RGB [3, H, W] in [0, 1].

    Raises:
        DataError: Its file is missing or broken, or a link out of the folder.
    """
    try:
        return read_image(resolved_inside(root, image, DataError))
    except InputError as error:
        raise DataError(str(error)) from error


def read_depth(path: Path, info: DatasetInfo, size: Size | None = None) -> DepthMap:
    """A depth map in the unit of its folder, NaN where unknown.

    Args:
        path: A 16-bit gray PNG, or float32 NPY.
        info: What its numbers mean.
        size: The size that its picture has; None: any.

    Raises:
        DataError: The file is missing or broken, of another kind or size, or has no known pixel, a negative or an
            infinite one; or the folder states no unit or scale.
    """
    if info.depth_unit is None:
        raise DataError(f"{path} cannot be understood: dataset.json states no depth unit.")
    is_npy = path.suffix.lower() == ".npy"
    values_HW = _read_npy(path, size) if is_npy else _read_depth_png(path, info.depth_scale, size)
    depth = DepthMap(values_HW=values_HW, unit=info.depth_unit)
    check_values(depth, str(path))
    return depth


def _read_npy(path: Path, size: Size | None) -> np.ndarray:
    stored = mapped_array(path)
    if stored.ndim != 2 or stored.dtype.kind != "f":
        raise DataError(f"{path} holds {stored.dtype} {list(stored.shape)}: write float32 [height, width].")
    _check_size(path, (stored.shape[0], stored.shape[1]), size)
    with np.errstate(over="ignore"):  # Becomes infinite, which is refused.
        return stored.astype(np.float32)


def _read_depth_png(path: Path, scale: float | None, size: Size | None) -> np.ndarray:
    if scale is None:
        raise DataError(f"{path} is a PNG, and dataset.json states no depth scale: add one, or write NPY.")
    stored_HW = _read_gray(path, "depth", ("I;16", "I;16B", "I"), size)
    values_HW = stored_HW.astype(np.float32) * np.float32(scale)
    values_HW[stored_HW == 0] = np.nan
    return values_HW


def _read_gray(path: Path, what: str, modes: tuple[str, ...], size: Size | None) -> np.ndarray:
    wanted = "16-bit gray PNG" if what == "depth" else "indexed or gray PNG"
    try:
        with open_image(path, save_as=wanted, min_side=1) as picture:
            if picture.format != "PNG" or picture.mode not in modes:
                raise DataError(
                    f"{path} is {picture.format} of mode {picture.mode}: write {what} as {wanted}."
                )
            _check_size(path, (picture.height, picture.width), size)
            return np.asarray(picture)
    except InputError as error:
        raise DataError(str(error)) from error


def _read_masks(root: Path, masks: str | tuple[RunLengths, ...], size: Size | None) -> Masks:
    if isinstance(masks, str):
        path = resolved_inside(root, masks, DataError)
        return Masks(ids_HW=_read_gray(path, "masks", ("P", "L", "I;16", "1"), size))
    for mask in masks:
        _check_size(f"mask {mask.id}", mask.size, size)
    return Masks(runs=masks)


def _check_size(name: Path | str, size: Size, wanted: Size | None) -> None:
    """Compare what a header says with the picture, before anything of that size is made."""
    if wanted is not None and size != wanted:
        raise DataError(f"{name} is {_extent(size)}, and its picture {_extent(wanted)}.")
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{name} is {_extent(size)}, more than {MAX_PIXELS:,} in all: make it smaller first.")


def decode_runs(runs: RunLengths) -> np.ndarray:
    """A boolean mask [H, W] of runs down the columns, zeros first."""
    values = np.arange(len(runs.counts)) % 2 == 1
    height, width = runs.size
    return np.repeat(values, runs.counts).reshape(width, height).T


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} pixels"
