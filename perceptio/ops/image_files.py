"""Any image file -> RGB [3, H, W] in [0, 1], or one sentence that says why not.

Reads what Pillow reads. EXIF rotation is applied, 16-bit gray keeps its precision, palettes and gray become RGB, and
transparent pixels are laid over white. Of a phone's multi-picture JPEG the main picture is taken; animations and
other files of several pictures are refused, as are sides below `MIN_SIDE` and more than `MAX_PIXELS` in all.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from perceptio.errors import InputError

MIN_SIDE = 8
"""Shortest side in pixels that can be looked at."""
MAX_PIXELS = 50_000_000
"""Largest image, in pixels: 600 MB as float RGB."""
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")
_TRANSPARENT_MODES = ("LA", "PA", "La", "RGBA", "RGBa")


def as_image(given: object) -> Tensor:
    """An image in a user's hands as float32 RGB [3, H, W] in [0, 1].

    Args:
        given: A path, a Pillow image, or a tensor that is one already.

    Raises:
        InputError: It is none of these, or cannot be looked at.
    """
    if isinstance(given, str | Path):
        return read_image(given)
    if isinstance(given, Image.Image):
        _check_extent("The image", given)
        return _to_unit_rgb("The image", given.copy())
    if not isinstance(given, Tensor):
        raise InputError(f"A {type(given).__name__} is no image: give a path, a Pillow image or a tensor.")
    if given.ndim != 3 or given.shape[0] != 3 or not given.is_floating_point():
        raise InputError(
            f"An image tensor is RGB [3, H, W] of floating-point numbers, and this is {given.dtype} "
            f"{list(given.shape)}."
        )
    _check_sides("The image", given.shape[2], given.shape[1])
    low, high = given.aminmax()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"An image tensor has values in [0, 1], and this has {low:g} to {high:g}: divide by 255?"
        )
    return given.float()


def read_image(path: Path | str) -> Tensor:
    """The image of a file as float32 RGB [3, H, W] in [0, 1].

    Raises:
        InputError: The file is missing, empty, no image, cut short, too large, too small, or holds several pictures.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder: name a file in it" if path.is_dir() else "does not exist: check the path"
        raise InputError(f"{path} {what}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: write or download it again.")
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            _check_extent(path, picture)
            return _to_unit_rgb(path, picture)
    except Image.DecompressionBombError:
        raise InputError(f"{path} has far more than {MAX_PIXELS:,} pixels: make it smaller first.") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is no image that can be read: save it as PNG or JPEG.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} cannot be read to its end ({error}): write or download it again."
        ) from error


def _check_sides(name: Path | str, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"{name} is {width}x{height} pixels: an image needs at least {MIN_SIDE} pixels on each side."
        )
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} is {width}x{height} pixels, more than {MAX_PIXELS:,} in all: make it smaller first."
        )


def _check_extent(name: Path | str, picture: Image.Image) -> None:
    _check_sides(name, *picture.size)
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise InputError(f"{name} holds {frames} pictures: save the one you mean as PNG or JPEG.")


def _to_unit_rgb(name: Path | str, picture: Image.Image) -> Tensor:
    ImageOps.exif_transpose(picture, in_place=True)
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
    pixels_HW3 = torch.from_numpy(np.array(picture))
    return pixels_HW3.permute(2, 0, 1).contiguous().float().div_(255)
