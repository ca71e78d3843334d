"""Reads any image file as RGB [3, H, W] in [0, 1], or raises an error of one sentence.

Supports `FORMATS`. EXIF rotation is applied; other or unreadable metadata is ignored. 16-bit gray keeps its
precision, palettes and gray become RGB, and transparent pixels are blended with white. For a phone's multi-picture
JPEG the main image is used. Animations and other files with several images are refused, as are images with a side
below `MIN_SIDE` or more than `MAX_PIXELS` in all, before anything is decoded.
"""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from perceptio.errors import InputError, quoted
from perceptio.ops.files import expanded
from perceptio.ops.foreign import parsing
from perceptio.ops.held_files import AnyFile, HeldFile, opened

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Supported formats, by Pillow's names; HEIF if its plugin is installed. Pillow's others include programs (EPS)."""

MIN_SIDE = 8
"""Minimum length of the shorter side, in pixels."""
MAX_PIXELS = 50_000_000
"""Maximum number of pixels of an image: 600 MB as float RGB."""
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")
_TRANSPARENT_MODES = ("LA", "PA", "La", "RGBA", "RGBa")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that makes an image upright, by EXIF orientation (Exif 2.32, 4.6.4, tag 274)."""
_ON_ITS_SIDE = (5, 6, 7, 8)
"""The orientations that exchange width and height."""


def as_image(given: object) -> Tensor:
    """Return an image that a user passes as float32 RGB [3, H, W] in [0, 1].

    Args:
        given: A path, a Pillow image, a numpy array [H, W, 3] of uint8, or a tensor RGB [3, H, W] of uint8 or of
            floating-point numbers in [0, 1].

    Raises:
        InputError: It is none of these, or has an unsupported size.
    """
    if isinstance(given, str | Path):
        return read_image(given)
    if isinstance(given, Image.Image):
        with parsing(InputError, "The image cannot be read to its end ({reason}): open a whole file."):
            _check_extent("The image", given)
            return _to_unit_rgb("The image", given.copy())
    if isinstance(given, np.ndarray):
        if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8:
            raise InputError(
                f"An image array is RGB [H, W, 3] of uint8, and this is {given.dtype} {list(given.shape)}: repeat "
                "gray three times, and bring other numbers to 0 to 255."
            )
        _check_sides("The image", given.shape[1], given.shape[0])
        return _unit_planes(given)
    if not isinstance(given, Tensor):
        raise InputError(
            f"{quoted(given)} is no image: give a path, a Pillow image, a numpy array or a tensor."
        )
    dense = given.layout == torch.strided and not given.is_meta
    if given.dtype == torch.uint8:
        given = given.float() / 255
    if not dense or given.ndim != 3 or given.shape[0] != 3 or not given.is_floating_point():
        kind = f"{given.dtype} {list(given.shape)}" + ("" if dense else f", {given.layout} on {given.device}")
        raise InputError(
            f"An image tensor is dense RGB [3, H, W] of uint8 or floating-point numbers, and this is {kind}."
        )
    _check_sides("The image", given.shape[2], given.shape[1])
    low, high = given.aminmax()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"An image tensor has values in [0, 1], and this has {low:g} to {high:g}: divide by 255?"
        )
    return given.float()


def read_image(path: AnyFile | str) -> Tensor:
    """Read an image file as float32 RGB [3, H, W] in [0, 1].

    Raises:
        InputError: The file is missing, empty, not an image, truncated, too large, too small, or holds several
            images.
    """
    with open_image(path) as picture:
        return _to_unit_rgb(path, picture)


@contextmanager
def open_image(
    path: AnyFile | str, *, save_as: str = "PNG or JPEG", min_side: int = MIN_SIDE
) -> Iterator[Image.Image]:
    """Yield an image of which only the header has been read, within the limits; it is decoded in the block.

    Args:
        path: The file.
        save_as: The format that the message recommends if the file is not an image.
        min_side: Minimum length of the shorter side, in pixels.

    Raises:
        InputError: See `read_image`, or another failure in the block.
    """
    path = path if isinstance(path, HeldFile) else expanded(path)
    with parsing(InputError, f"{path} cannot be read to its end ({{reason}}): write or download it again."):
        if isinstance(path, Path) and not path.is_file():
            what = "is a folder: name a file in it" if path.is_dir() else "does not exist: check the path"
            raise InputError(f"{path} {what}.")
        if (len(path.content) if isinstance(path, HeldFile) else path.stat().st_size) == 0:
            raise InputError(f"{path} is empty: write or download it again.")
        with warnings.catch_warnings(), opened(path) as file:
            warnings.simplefilter("ignore")  # About metadata, and about sizes that are checked here.
            try:
                picture = Image.open(file, formats=_readable())
            except UnidentifiedImageError:
                raise InputError(f"{path} is no image that can be read: save it as {save_as}.") from None
            except Image.DecompressionBombError:
                raise InputError(
                    f"{path} has far more than {MAX_PIXELS:,} pixels: make it smaller first."
                ) from None
            with picture:
                _check_extent(path, picture, min_side)
                yield picture


@attrs.frozen(kw_only=True)
class Extent:
    """The size of an image, in pixels.

    Attributes:
        stored: Height and width in the file.
        shown: Height and width after the EXIF rotation.
        turned: Whether the EXIF orientation rotates or mirrors it, even if the size stays the same.
    """

    stored: tuple[int, int]
    shown: tuple[int, int]
    turned: bool


def read_extent(path: AnyFile | str) -> Extent:
    """Return the size of an image file, reading only its header.

    Raises:
        InputError: See `read_image`; a truncated file is not detected.
    """
    with open_image(path) as picture:
        orientation, stored = _orientation(picture), (picture.height, picture.width)
        shown = stored[::-1] if orientation in _ON_ITS_SIDE else stored
        return Extent(stored=stored, shown=shown, turned=orientation in _UPRIGHT)


def shown_size(path: AnyFile | str) -> tuple[int, int]:
    """Return height and width of an image file after rotation, as `read_extent` does."""
    return read_extent(path).shown


@functools.cache
def _readable() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _check_sides(name: AnyFile | str, width: int, height: int, min_side: int = MIN_SIDE) -> None:
    if min(width, height) < min_side:
        raise InputError(
            f"{name} is {width}x{height} pixels: an image needs at least {min_side} pixels on each side."
        )
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} is {width}x{height} pixels, more than {MAX_PIXELS:,} in all: make it smaller first."
        )


def _check_extent(name: AnyFile | str, picture: Image.Image, min_side: int = MIN_SIDE) -> None:
    _check_sides(name, *picture.size, min_side)
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise InputError(f"{name} holds {frames} pictures: save the one you mean as PNG or JPEG.")


def _to_unit_rgb(name: AnyFile | str, picture: Image.Image) -> Tensor:
    picture = _upright(picture)
    if picture.mode == "F":
        raise InputError(
            f"{name} holds floating point numbers, whose black and white are unknown: save it as PNG or JPEG."
        )
    if picture.mode in _DEEP_MODES:
        gray_HW = np.asarray(picture).astype(np.float32) / 65535
        return torch.from_numpy(gray_HW.clip(0, 1)).expand(3, -1, -1).contiguous()
    if picture.mode in _TRANSPARENT_MODES or "transparency" in picture.info:
        colored = picture.convert("RGBA")
        white = Image.new("RGBA", colored.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, colored)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    return _unit_planes(np.asarray(picture))


def _unit_planes(pixels_HW3: np.ndarray) -> Tensor:
    """Return RGB of 0 to 255 [H, W, 3] as float32 [3, H, W] in [0, 1], without modifying it."""
    return torch.from_numpy(np.ascontiguousarray(pixels_HW3.transpose(2, 0, 1))).float().div_(255)


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()  # Some formats are rotated while decoding, and have no orientation afterwards.
    turn = _UPRIGHT.get(_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1  # Unreadable metadata is ignored.
