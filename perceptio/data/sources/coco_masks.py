"""Convert COCO's polygons, run lengths and panoptic PNGs to the compressed run lengths of each object.

Polygons are rasterized by COCO's own code (pycocotools). That code does not check its input, and its memory use
depends on it. Polygons that are very long or far outside their picture, and run lengths of another size, are
therefore left out first.

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
"""How far a polygon may extend beyond its picture, as a multiple of the picture's longer side."""
LONGEST = 1_000_000
"""Maximum perimeter of a polygon in pixels; COCO's code uses about 80 bytes per pixel."""

TOO_FEW = "a polygon has fewer than three points"
TOO_LONG = "a polygon is longer than a million pixels around"
NO_POLYGON = "a polygon is no list of pairs of numbers near its picture"
NO_MASK = "its segmentation is neither polygons nor run lengths"
WRONG_SIZE = "its run lengths are those of a mask of another size than its picture"
EMPTY = "its mask has no pixel"
UNLISTED = "the panoptic PNG shows a segment that the file does not list"


@attrs.frozen(kw_only=True)
class ObjectMask:
    """The mask of an object in a picture.

    Attributes:
        counts: Its compressed run lengths; None if it has no pixel or cannot be used.
        left_out: Reasons why parts of the object, or all of it, are left out, one per part.
    """

    counts: str | None
    left_out: tuple[str, ...] = ()


def object_mask(segmentation: Any, size: Size) -> ObjectMask:
    """Return the mask of a COCO annotation: the union of its polygons, or its run lengths.

    Args:
        segmentation: Polygons `[[x, y, x, y, …], …]`, or `{"size": [H, W], "counts": …}` with a list or a string.
        size: Size of the picture.
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
    """Return why a polygon cannot be drawn, or None if it can."""
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
    """Return a mask's number of pixels, and its bounding box (x, y, width, height) in pixels."""
    from pycocotools import mask as coco

    runs = {"size": list(size), "counts": counts}
    x, y, width, height = map(float, coco.toBbox(runs))
    return int(coco.area(runs)), (x, y, width, height)


def panoptic_masks(path: Path, ids: list[int], size: Size) -> Iterator[tuple[int, str | None]]:
    """Yield the compressed run lengths of segments with their ids; None for a segment without pixels.

    Segments in the PNG that are not in `ids` come last, with None. The id 0 means no segment and is skipped.

    Args:
        path: The PNG, whose pixels are ids: `R + 256 G + 65536 B`.
        ids: The ids of the segments.
        size: Size of the picture.

    Raises:
        DataError: The file is missing, broken, not an RGB PNG, or not of the picture's size.
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
