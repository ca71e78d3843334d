"""Objects in COCO pictures, with names and masks, from instance annotations or panoptic segments."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from perceptio.data.folder.json_rules import is_whole
from perceptio.data.sources.coco_files import COCOFile, Picture
from perceptio.data.sources.coco_masks import EMPTY, UNLISTED, ObjectMask, object_mask, panoptic_masks
from perceptio.errors import DataError, quoted

_ENDINGS = ("-merged", "-other", "-stuff")
_MADE_OF = ("floor", "wall")
"""Names whose second part is the material: `wall-brick` is a brick wall."""


@attrs.frozen(kw_only=True)
class FoundObject:
    """An object from an annotation or a segment.

    Attributes:
        id: The id of the annotation or segment.
        category: The name of its category; empty for a segment that the file does not list.
        crowd: Whether it is a group of objects.
        mask: Its mask.
    """

    id: int
    category: str
    crowd: bool
    mask: ObjectMask


def instances_of(file: COCOFile, picture: Picture) -> Iterator[FoundObject]:
    """Yield the objects annotated in a picture, from a file of instances.

    Raises:
        DataError: An id is not a whole number from 1, two annotations have the same id, a category is unknown, or
            `iscrowd` is neither 0 nor 1.
    """
    seen: set[int] = set()
    for annotation in file.annotations(picture.id):
        number = _number(annotation, seen, f"{file.path}: an annotation of picture {picture.id}")
        yield FoundObject(
            id=number,
            category=file.category(annotation.get("category_id"), f"annotation {number}"),
            crowd=_is_crowd(annotation, f"{file.path}: annotation {number}"),
            mask=object_mask(annotation.get("segmentation"), picture.size),
        )


def panoptic_folder(file: COCOFile) -> Path:
    """Return the folder with the PNGs of a panoptic file: next to the file, with the same name without the suffix."""
    return file.path.with_suffix("")


def segments_of(file: COCOFile, pngs: Path, picture: Picture) -> Iterator[FoundObject]:
    """Yield the segments of a picture, from a panoptic file.

    Args:
        file: The file.
        pngs: The folder of PNGs.
        picture: The picture.

    Raises:
        DataError: See `instances_of`; or the picture has two entries or a broken one, or the PNG is missing, broken,
            or not of the picture's size.
    """
    if file.count(picture.id) > 1:
        raise DataError(f"{file.path} has the segments of picture {picture.id} twice: download it again.")
    for annotation in file.annotations(picture.id):
        where = f"{file.path}: the segments of picture {picture.id}"
        name, infos = annotation.get("file_name"), annotation.get("segments_info")
        if not isinstance(name, str) or "/" in name or not isinstance(infos, list):
            raise DataError(
                f"{where} have file_name {quoted(name)} and segments_info {quoted(infos)}: download it again."
            )
        seen: set[int] = set()
        numbers = [_number(info, seen, f"{where}: one") for info in infos]
        masks = dict(panoptic_masks(pngs / name, numbers, picture.size))
        for number in masks.keys() - set(numbers):
            # It becomes a crowd without a name, so that no question is about it.
            yield FoundObject(
                id=number, category="", crowd=True, mask=ObjectMask(counts=None, left_out=(UNLISTED,))
            )
        for number, info in zip(numbers, infos, strict=True):
            counts = masks[number]
            yield FoundObject(
                id=number,
                category=spoken(
                    file.category(info.get("category_id"), f"segment {number} of picture {picture.id}")
                ),
                crowd=_is_crowd(info, f"{file.path}: segment {number} of picture {picture.id}"),
                mask=ObjectMask(counts=counts, left_out=(EMPTY,) if counts is None else ()),
            )


def spoken(category: str) -> str:
    """Return a panoptic category in everyday words: `wall-brick` is "brick wall", `sky-other-merged` is "sky"."""
    for ending in _ENDINGS:
        category = category.removesuffix(ending)
    first, dash, second = category.partition("-")
    if not dash:
        return category
    return f"{second} {first}" if first in _MADE_OF else f"{first} {second}"


def _is_crowd(value: Mapping[str, Any], what: str) -> bool:
    stated = value.get("iscrowd", 0)
    if stated not in (0, 1):
        raise DataError(f"{what} has iscrowd {quoted(stated)}, which is neither 0 nor 1: download it again.")
    return bool(stated)


def _number(value: Any, seen: set[int], what: str) -> int:
    number = value.get("id") if isinstance(value, Mapping) else None
    if not is_whole(number) or number < 1 or number in seen:
        raise DataError(
            f"{what} has the id {quoted(number)}, which is no whole number from 1, or another's: download it again."
        )
    seen.add(number)
    return number
