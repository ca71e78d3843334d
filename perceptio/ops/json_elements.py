"""The lists of a large JSON object, one element at a time, for published files of hundreds of MB.

The text is kept in memory, but not the parsed values; an element can be parsed again from its offset.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from perceptio.errors import DataError, PerceptioError
from perceptio.ops.foreign import parsing, reason_of
from perceptio.ops.json_files import DECODER

MAX_BYTES = 2 * 2**30
"""Maximum file size; COCO's largest file, `instances_train2017.json`, has 0.45 GB."""
_SPACE = re.compile(r"[ \t\n\r]*")


class Element(NamedTuple):
    """An element of a list within an object, the list's name, and the offset of its text."""

    list: str
    start: int
    value: Any


class JSONElements:
    """A JSON file with an object, whose lists are read one element at a time.

    Args:
        path: The file.
        error: The class of errors.
        remedy: The end of error messages: what to do about a broken file.

    Raises:
        PerceptioError: Of the given class: the file is missing, larger than `MAX_BYTES`, or not UTF-8.
    """

    def __init__(
        self, path: Path, *, error: type[PerceptioError] = DataError, remedy: str = "download it again"
    ) -> None:
        self.path, self._error, self._remedy = path, error, remedy
        with parsing(error, f"{path} cannot be read ({{reason}}): {remedy}."):
            if not path.is_file():
                raise error(f"{path} does not exist, or is no file: check the path.")
            if (size := path.stat().st_size) > MAX_BYTES:
                raise error(f"{path} has {size:,} bytes, and such JSON is read up to {MAX_BYTES:,}.")
            self._text = path.read_text(encoding="utf-8")

    def __iter__(self) -> Iterator[Element]:
        """Yield every element of every list in the object, in the order of the file; skip other values.

        Raises:
            PerceptioError: Of the given class: the text is not a JSON object, is truncated, or continues after it.
        """
        place = self._after("{", 0)
        while True:
            key, place = self._value(place)
            if not isinstance(key, str):
                raise self._broken("a name is expected", place)
            place = self._skipped(self._after(":", place))
            if self._text.startswith("[", place):
                place = self._skipped(place + 1)
                while not self._text.startswith("]", place):
                    value, end = self._value(place)
                    yield Element(key, place, value)
                    place = self._separator(end, "]")
                place += 1
            else:
                _, place = self._value(place)
            place = self._separator(place, "}")
            if self._text.startswith("}", place):
                if (end := self._skipped(place + 1)) < len(self._text):
                    raise self._broken("something stands after its end", end)
                return

    def at(self, start: int) -> Any:
        """Return the element at an offset that an `Element` has stated."""
        return self._value(start)[0]

    def _value(self, place: int) -> tuple[Any, int]:
        try:
            return DECODER.raw_decode(self._text, place)
        except (ValueError, RecursionError) as problem:
            raise self._broken(reason_of(problem), place) from None

    def _separator(self, place: int, closing: str) -> int:
        """Return the offset of the next element or of the closing bracket."""
        place = self._skipped(place)
        if self._text.startswith(closing, place):
            return place
        return self._skipped(self._after(",", place))

    def _after(self, mark: str, place: int) -> int:
        place = self._skipped(place)
        if not self._text.startswith(mark, place):
            raise self._broken(f"{mark!r} is expected", place)
        return self._skipped(place + 1)

    def _skipped(self, place: int) -> int:
        found = _SPACE.match(self._text, place)
        assert found is not None
        return found.end()

    def _broken(self, reason: str, place: int) -> PerceptioError:
        if place >= len(self._text):
            reason = "it is cut short"
        return self._error(f"{self.path} is not the JSON that was published ({reason}): {self._remedy}.")
