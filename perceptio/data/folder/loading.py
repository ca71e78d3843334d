"""Reading the files of one sample into arrays, with all rules for these files.

Shapes: H W pixels of the image, C channels of a map.
"""

from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
from torch import Tensor

from perceptio.data.folder.dataset_info import DatasetInfo, MapInfo
from perceptio.data.folder.files import AnyFiles, split_root
from perceptio.data.folder.records import LINES_FILE, Problem, SampleRecord, runs_of_mask
from perceptio.errors import DataError, InputError
from perceptio.interfaces import DepthMap, RunLengths, Sample, Turn
from perceptio.interfaces.depth_maps import check_values
from perceptio.ops.array_files import mapped_array
from perceptio.ops.held_files import AnyFile
from perceptio.ops.image_files import MAX_PIXELS, open_image, read_image
from perceptio.ops.run_lengths import mask_of

DEPTH_LEVELS, MAP_LEVELS = 65535, 255
"""Largest value in a PNG of depth, and in one of a map."""
ROUNDING = 1e-3
"""Tolerance for values outside a map's range, as a share of it; more than float16 rounding. They are clipped."""

Size = tuple[int, int]
"""Height and width."""


class Masks(Mapping[int, np.ndarray]):
    """The objects of a sample by number, each decoded to a boolean [H, W] when it is accessed.

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
            return mask_of(runs_of_mask(self._runs[number]), self._runs[number].size)
        if number not in self._numbers:
            raise KeyError(number)
        return self._ids_HW == number

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def shows(self, number: int) -> bool:
        """Return whether an object has at least one pixel."""
        return number in self._numbers and (
            number not in self._runs or bool(runs_of_mask(self._runs[number])[1::2].any())
        )


class Objects(Sequence[np.ndarray]):
    """The masks of a sample's objects in order, each decoded when it is accessed."""

    def __init__(self, masks: Masks) -> None:
        self._masks, self._numbers = masks, tuple(masks)

    def __getitem__(self, place: int) -> np.ndarray:  # type: ignore[override]
        return self._masks[self._numbers[place]]

    def __len__(self) -> int:
        return len(self._numbers)


class Maps(Mapping[str, np.ndarray]):
    """The maps of a sample by name, each read to float32 [H, W, C], NaN where unknown, when it is accessed.

    Access raises a `DataError` if the file is missing or broken, or does not fit (`read_map`).

    Args:
        files: The files of the folder.
        declared: The maps that the folder declares.
        named: The file names of the sample's own maps.
        size: The size of the image; None if it could not be read.
    """

    def __init__(
        self,
        files: AnyFiles,
        declared: Mapping[str, MapInfo],
        named: Mapping[str, str],
        size: Size | None = None,
    ) -> None:
        self._files, self._declared, self._named, self._size = files, declared, named, size

    def __getitem__(self, name: str) -> np.ndarray:
        return read_map(self._files.found(self._named[name]), name, self._declared[name], self._size)

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


@attrs.frozen(kw_only=True, eq=False)
class LoadedFiles:
    """The content of a sample's files; None for a file that is missing or broken."""

    image_3HW: Tensor | None
    depth: DepthMap | None
    masks: Masks | None
    maps: Maps

    def sample(self, turns: tuple[Turn, ...], source: str) -> Sample:
        """Return the sample with the content of its files, and these turns."""
        objects = () if self.masks is None else Objects(self.masks)
        return Sample(
            turns=turns,
            image_3HW=self.image_3HW,
            depth=self.depth,
            objects=objects,
            maps=self.maps,
            source=source,
        )


def load_files(
    files: AnyFiles, info: DatasetInfo, record: SampleRecord, problems: list[Problem]
) -> LoadedFiles:
    """Read the image, depth and masks of a sample, adding problems to `problems`; its maps are read later."""

    def report(name: str, message: str) -> None:
        problems.append(_problem(files, record, name, message))

    image = depth = masks = None
    if record.image is not None:
        try:
            image = read_picture(files, record.image)
        except DataError as error:
            report(record.image, str(error))
    size: Size | None = None if image is None else (image.shape[-2], image.shape[-1])
    if record.depth is not None:
        try:
            depth = read_depth(files.found(record.depth), info, size)
        except DataError as error:
            report(record.depth, str(error))
    where = record.masks if isinstance(record.masks, str) else LINES_FILE
    if record.masks is not None:
        try:
            masks = _read_masks(files, record.masks, size)
        except DataError as error:
            report(where, str(error))
    if masks is not None:
        asked = {number for turn in record.turns for number in turn.objects}
        missing = sorted(number for number in asked if not masks.shows(number))
        if missing:
            known = ", ".join(map(str, sorted(masks)[:20])) or "none"
            report(
                where, f"lacks a pixel of what a turn segments, by object number: {missing}; it has: {known}."
            )
    maps = Maps(files, info.maps, record.maps, size)
    return LoadedFiles(image_3HW=image, depth=depth, masks=masks, maps=maps)


def map_problems(files: AnyFiles, record: SampleRecord, maps: Maps) -> Iterator[Problem]:
    """Read all maps of a sample, and yield their problems."""
    for name, file in record.maps.items():
        try:
            maps[name]
        except DataError as error:
            yield _problem(files, record, file, str(error))


def _problem(files: AnyFiles, record: SampleRecord, name: str, message: str) -> Problem:
    # A file in a root keeps its path in the message, because nothing else shows its location.
    where = "" if split_root(name, files.roots)[0] else f"{files.where(name)} "
    return Problem(file=name, line=record.line, message=message.removeprefix(where))


def read_picture(files: AnyFiles, image: str) -> Tensor:
    """Return the image of a sample, RGB [3, H, W] in [0, 1].

    Raises:
        DataError: Its file is missing or broken, or a link that leads out of its folder.
    """
    try:
        return read_image(files.found(image))
    except InputError as error:
        raise DataError(str(error)) from error


def read_depth(path: AnyFile, info: DatasetInfo, size: Size | None = None) -> DepthMap:
    """Return a depth map in the unit of its folder, NaN where unknown.

    Args:
        path: A 16-bit gray PNG, or float32 NPY.
        info: The meaning of its values.
        size: The size of its image; None: any.

    Raises:
        DataError: The file is missing or broken, of another kind or size, or has no known pixel, a negative or an
            infinite one; or the folder states no unit or scale.
    """
    if info.depth_unit is None:
        raise DataError(f"{path} cannot be understood: dataset.json states no depth unit.")
    is_npy = path.suffix.lower() == ".npy"
    values_HW = _read_npy(path, (), size) if is_npy else _read_depth_png(path, info.depth_scale, size)
    depth = DepthMap(values_HW=values_HW, unit=info.depth_unit)
    check_values(depth, str(path))
    return depth


def read_map(path: AnyFile, name: str, info: MapInfo, size: Size | None = None) -> np.ndarray:
    """Return a map as float32 [H, W, C] within its range, NaN where unknown.

    Args:
        path: An 8-bit gray or RGB PNG, or float32 NPY.
        name: The map's name, for messages.
        info: The meaning of its values.
        size: The size of its image; None: any.

    Raises:
        DataError: The file is missing or broken, of another kind, size or number of channels, or has no known pixel,
            a partly known one, or one out of range.
    """
    if path.suffix.lower() == ".npy":
        values_HWC = _read_npy(path, (info.channels,), size)
        check_map(values_HWC, info, str(path))
        return values_HWC.clip(info.low, info.high)
    wanted, mode = ("8-bit gray PNG", "L") if info.channels == 1 else ("8-bit RGB PNG", "RGB")
    stored = _read_png(path, name, wanted, (mode,), size)
    values = np.linspace(info.low, info.high, MAP_LEVELS + 1, dtype=np.float32)
    return values[stored.reshape(*stored.shape[:2], info.channels)]


def check_map(values_HWC: np.ndarray, info: MapInfo, what: str) -> None:
    """Refuse a map without a known pixel, or with one that is partly known or out of range.

    Args:
        values_HWC: The map, NaN where unknown.
        info: The meaning of its values.
        what: The beginning of the message.

    Raises:
        DataError: It is such a map.
    """
    unknown_HWC = np.isnan(values_HWC)
    if unknown_HWC.all():
        raise DataError(f"{what} has no known pixel: leave it out.")
    if (unknown_HWC.any(-1) != unknown_HWC.all(-1)).any():
        raise DataError(f"{what} has pixels of which some channels are NaN: write NaN in all of them.")
    least, most = float(np.nanmin(values_HWC)), float(np.nanmax(values_HWC))
    slack = ROUNDING * (info.high - info.low)
    if least < info.low - slack or most > info.high + slack:
        raise DataError(
            f"{what} has values from {least:g} to {most:g}, and dataset.json says {info.low:g} to {info.high:g}."
        )


def _read_npy(path: AnyFile, channels: tuple[int, ...], size: Size | None) -> np.ndarray:
    """Return float32 [H, W, *channels]; the file may omit the axis of a single channel."""
    stored = mapped_array(path)
    shape = stored.shape
    fits = len(shape) >= 2 and (shape[2:] == channels or (shape[2:] == () and channels == (1,)))
    if not fits or stored.dtype.kind != "f":
        wanted = ", ".join(["height", "width", *map(str, channels)])
        raise DataError(f"{path} holds {stored.dtype} {list(shape)}: write float32 [{wanted}].")
    _check_size(path, (shape[0], shape[1]), size)
    # Values that are too large become infinite, which is refused; a signaling NaN becomes NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        return stored.reshape(*shape[:2], *channels).astype(np.float32)


def _read_depth_png(path: AnyFile, scale: float | None, size: Size | None) -> np.ndarray:
    if scale is None:
        raise DataError(f"{path} is a PNG, and dataset.json states no depth scale: add one, or write NPY.")
    stored_HW = _read_png(path, "depth", "16-bit gray PNG", ("I;16", "I;16B", "I"), size)
    values_HW = stored_HW.astype(np.float32) * np.float32(scale)
    values_HW[stored_HW == 0] = np.nan
    return values_HW


def _read_png(path: AnyFile, what: str, wanted: str, modes: tuple[str, ...], size: Size | None) -> np.ndarray:
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


def _read_masks(files: AnyFiles, masks: str | tuple[RunLengths, ...], size: Size | None) -> Masks:
    if isinstance(masks, str):
        path = files.found(masks)
        return Masks(ids_HW=_read_png(path, "masks", "indexed or gray PNG", ("P", "L", "I;16", "1"), size))
    for mask in masks:
        _check_size(f"mask {mask.id}", mask.size, size)
    return Masks(runs=masks)


def _check_size(name: AnyFile | str, size: Size, wanted: Size | None) -> None:
    """Compare the size in a header with the image's, before memory of that size is allocated."""
    if wanted is not None and size != wanted:
        raise DataError(f"{name} is {_extent(size)}, and its picture {_extent(wanted)}.")
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{name} is {_extent(size)}, more than {MAX_PIXELS:,} in all: make it smaller first.")


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} pixels"
