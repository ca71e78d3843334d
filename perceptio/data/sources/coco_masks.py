"""COCO's segmentations, polygons or run lengths, as compressed run lengths of one object; and panoptic PNGs.

Polygons are rasterized by COCO's own code (pycocotools). It checks nothing, and takes memory by what it is told: it
is given no polygon that is far outside of its picture or very long, and no run lengths of another size.

Shapes: H W pixels, N segments.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from perceptio.errors import DataError, InputError
from perceptio.ops.image_files import open_image
from perceptio.ops.run_lengths import format_runs, parse_runs

Size = tuple[int, int]
"""Height and width."""
FAR = 2.0
"""A polygon may leave its picture by so many times the picture's longer side."""
LONGEST = 1_000_000
"""Pixels around a polygon; for each, COCO's code takes about 80 bytes."""

TOO_FEW = "a polygon has fewer than three points"
TOO_LONG = "a polygon is longer than a million pixels around"
NO_POLYGON = "a polygon is no list of pairs of numbers near its picture"
NO_MASK = "its segmentation is neither polygons nor run lengths"
WRONG_SIZE = "its run lengths are those of a mask of another size than its picture"
EMPTY = "its mask has no pixel"
UNLISTED = "the panoptic PNG shows a segment that the file does not list"


@attrs.frozen(kw_only=True)
class ObjectMask:
    """An object of a picture.

    Attributes:
        counts: Its compressed run lengths; None where it has no pixel.
        left_out: Why something of it, or all of it, is left out: a reason for each.
    """

    counts: str | None
    left_out: tuple[str, ...] = ()


def object_mask(segmentation: Any, size: Size) -> ObjectMask:
    """The mask of an annotation of COCO: the union of its polygons, or what its run lengths say.

    Args:
        segmentation: Polygons `[[x, y, x, y, …], …]`, or `{"size": [H, W], "counts": …}` with a list or a string.
        size: Of the picture.
    """
    if isinstance(segmentation, Mapping):
        return _of_runs(segmentation, size)
    if not isinstance(segmentation, list):
        return ObjectMask(counts=None, left_out=(NO_MASK,))
    found = [why_no_polygon(polygon, size) for polygon in segmentation]
    polygons = [polygon for polygon, why in zip(segmentation, found, strict=True) if why is None]
    left_out = tuple(why for why in found if why is not None)
    if not polygons:
        return ObjectMask(counts=None, left_out=(*left_out, EMPTY))
    from pycocotools import mask as coco

    union = coco.merge(coco.frPyObjects(polygons, *size))
    if not int(coco.area(union)):
        return ObjectMask(counts=None, left_out=(*left_out, EMPTY))
    return ObjectMask(counts=union["counts"].decode("ascii"), left_out=left_out)


def why_no_polygon(polygon: Any, size: Size) -> str | None:
    """Why a polygon cannot be drawn; None where it can."""
    if not isinstance(polygon, list):
        return NO_POLYGON
    if len(polygon) < 6:
        return TOO_FEW
    far = FAR * max(size)
    whole = all(type(one) in (int, float) and -far <= one <= max(size) + far for one in polygon)
    if not whole or len(polygon) % 2:
        return NO_POLYGON
    if len(polygon) / 2 * (2 * far + max(size)) <= LONGEST:
        return None
    points_N2 = np.asarray(polygon).reshape(-1, 2)
    around = np.abs(points_N2 - np.roll(points_N2, 1, axis=0)).max(axis=1).sum()
    return None if around <= LONGEST else TOO_LONG


def _of_runs(segmentation: Mapping[str, Any], size: Size) -> ObjectMask:
    if segmentation.get("size") != list(size):
        return ObjectMask(counts=None, left_out=(WRONG_SIZE,))
    counts = segmentation.get("counts")
    try:
        runs = parse_runs(counts) if isinstance(counts, str) else np.asarray(counts)
    except ValueError:
        return ObjectMask(counts=None, left_out=(NO_MASK,))
    if runs.ndim != 1 or runs.dtype.kind not in "iu" or (runs < 0).any():
        return ObjectMask(counts=None, left_out=(NO_MASK,))
    if runs.sum() != size[0] * size[1]:
        return ObjectMask(counts=None, left_out=(WRONG_SIZE,))
    if not runs[1::2].any():
        return ObjectMask(counts=None, left_out=(EMPTY,))
    return ObjectMask(counts=counts if isinstance(counts, str) else format_runs(runs))


def area_and_box(counts: str, size: Size) -> tuple[int, tuple[float, float, float, float]]:
    """How many pixels a mask has, and the box (x, y, width, height) that holds them, in pixels."""
    from pycocotools import mask as coco

    runs = {"size": list(size), "counts": counts}
    x, y, width, height = map(float, coco.toBbox(runs))
    return int(coco.area(runs)), (x, y, width, height)


def panoptic_masks(path: Path, ids: list[int], size: Size) -> Iterator[tuple[int, str | None]]:
    """The compressed run lengths of segments, by id; None of one that no pixel shows.

    What the PNG shows and is not asked for, but for 0, which is no segment, comes last, with None.

    Args:
        path: The PNG, whose pixels are ids: `R + 256 G + 65536 B`.
        ids: The ids of the segments.
        size: Of the picture.

    Raises:
        DataError: The file is missing or broken, no RGB PNG, or of another size.
    """
    from pycocotools import mask as coco

    try:
        with open_image(path, save_as="RGB PNG", min_side=1) as picture:
            if picture.format != "PNG" or picture.mode != "RGB":
                raise DataError(
                    f"{path} is {picture.format} of mode {picture.mode}; panoptic masks are RGB PNGs."
                )
            if (picture.height, picture.width) != size:
                raise DataError(
                    f"{path} is {picture.width}x{picture.height} pixels, and its picture is {size[1]}x{size[0]}."
                )
            colors_HW3 = np.asarray(picture).astype(np.int32)
    except InputError as error:
        raise DataError(str(error)) from error
    ids_HW = colors_HW3[..., 0] + 256 * colors_HW3[..., 1] + 65536 * colors_HW3[..., 2]
    shown = set(np.unique(ids_HW).tolist())
    for one in ids:
        mask_HW = np.asfortranarray(ids_HW == one, dtype=np.uint8)
        yield one, coco.encode(mask_HW)["counts"].decode("ascii") if one in shown else None
    yield from ((one, None) for one in sorted(shown - {0, *ids}))
