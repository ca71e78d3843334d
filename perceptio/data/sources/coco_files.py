"""COCO's annotation files: images and categories stay in memory, annotations are read again on access."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from perceptio.data.folder.json_rules import is_whole
from perceptio.errors import DataError, quoted
from perceptio.ops.image_files import MAX_PIXELS
from perceptio.ops.json_elements import JSONElements
from perceptio.ops.wording import number_of


@attrs.frozen(kw_only=True)
class Picture:
    """An image of a file of annotations; sides in pixels."""

    id: int
    file_name: str
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


class COCOFile:
    """A file of COCO: `instances_*.json`, `captions_*.json`, `panoptic_*.json`, or an `instances.json` of RefCOCO.

    Args:
        path: The file.
        by: Whether annotations are looked up by their own ids, which must be unique, or by their images' ids.
        wanted: The ids that will be looked up; None: all.

    Attributes:
        pictures: The images by id, in the order of the file.
        categories: The names of categories, by id.

    Raises:
        DataError: The file is missing or truncated, an image or an annotation is repeated, or an entry has the wrong
            form; or, if annotations are looked up by image, one belongs to an image that the file does not list.
    """

    def __init__(
        self, path: Path, *, by: Literal["id", "image_id"], wanted: Collection[int] | None = None
    ) -> None:
        self.path = path
        self.pictures: dict[int, Picture] = {}
        self.categories: dict[int, str] = {}
        self._names: dict[str, int] = {}
        self._elements = JSONElements(path)
        self._starts: dict[int, list[int]] = {}
        seen: set[int] = set()
        for name, start, value in self._elements:
            if name == "images":
                self._add_picture(value)
            elif name == "categories":
                number = self._whole(value, "id", "a category")
                called = " ".join(self._text(value, "name", "a category").split())
                if not called:
                    raise DataError(
                        f"{path}: the category {number} has a name without words: download it again."
                    )
                if self.categories.setdefault(number, called) != called:
                    raise DataError(
                        f"{path} has the category {number} twice, by two names: download it again."
                    )
            elif name == "annotations":
                key = self._whole(value, by, "an annotation")
                if value.get("id") is not None:  # Panoptic annotations have none.
                    number = self._whole(value, "id", "an annotation")
                    if number in seen:
                        raise DataError(f"{path} has the annotation {number} twice: download it again.")
                    seen.add(number)
                if wanted is None or key in wanted:
                    self._starts.setdefault(key, []).append(start)
        if by == "image_id" and (unlisted := self._starts.keys() - self.pictures.keys()):
            raise DataError(
                f"{path} has annotations of {number_of(len(unlisted), 'picture')} that it does not list, such as "
                f"{min(unlisted)}: download it again, or take them out."
            )

    def annotations(self, key: int) -> Iterator[Mapping[str, Any]]:
        """Yield the annotations with an id, or of an image, in the order of the file."""
        return map(self._elements.at, self._starts.get(key, ()))

    def count(self, key: int) -> int:
        """Return the number of annotations with an id, or of an image."""
        return len(self._starts.get(key, ()))

    def picture(self, key: int, named_by: str) -> Picture:
        """Return the image with an id.

        Raises:
            DataError: There is none; `named_by` says what refers to it.
        """
        if key not in self.pictures:
            raise DataError(
                f"{self.path} has no picture {key}, which {named_by} names: the two do not belong together."
            )
        return self.pictures[key]

    def category(self, key: Any, named_by: str) -> str:
        """Return the name of a category.

        Raises:
            DataError: There is none; `named_by` says what refers to it.
        """
        if key is None:
            raise DataError(
                f"{self.path} has {named_by} without a category, as a file of captions has: name a file of instances "
                "or of panoptic segments."
            )
        if not is_whole(key) or key not in self.categories:
            raise DataError(
                f"{self.path} has no category {quoted(key)}, which {named_by} names; it has {len(self.categories)}: "
                "download it again."
            )
        return self.categories[key]

    def _add_picture(self, value: Any) -> None:
        key = self._whole(value, "id", "a picture")
        what = f"picture {key}"
        if key in self.pictures:
            raise DataError(f"{self.path} has the {what} twice: download it again.")
        name = self._text(value, "file_name", what)
        height, width = (self._whole(value, side, what) for side in ("height", "width"))
        if min(height, width) < 1 or height * width > MAX_PIXELS:
            raise DataError(f"{self.path}: {what} is {width}x{height} pixels, which is no picture's size.")
        if name in self._names:
            raise DataError(
                f"{self.path} has {quoted(name)} as the picture {self._names[name]} and as {key}: download it again."
            )
        self._names[name] = key
        self.pictures[key] = Picture(id=key, file_name=name, height=height, width=width)

    def _whole(self, value: Any, key: str, what: str) -> int:
        found = value.get(key) if isinstance(value, Mapping) else None
        if not is_whole(found):
            raise DataError(f"{self.path}: {what} has {key} {quoted(found)}, which is no whole number.")
        return found

    def _text(self, value: Any, key: str, what: str) -> str:
        found = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(found, str):
            raise DataError(f"{self.path}: {what} has {key} {quoted(found)}, which is no text.")
        return found
