"""The items of a large JSON file, one at a time: a list that is too long to be held, or objects one after the other.

Python's own parser says of a text that begins with an item where the item ends (`raw_decode`): nothing further is
needed to read a gigabyte in a few megabytes, as fast as if it were read at once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from perceptio.errors import DataError, PerceptioError
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import DECODER, MAX_LINE_BYTES, InvalidJSONError

CHUNK = 2**20
"""Characters that are read at a time."""


def read_items(path: Path, *, error: type[PerceptioError] = DataError) -> Iterator[Any]:
    """The items of a JSON list, or of a file of JSON objects such as JSON lines, in order.

    Texts may hold half a surrogate pair, which no file can be written with: who keeps an item checks that.

    Args:
        path: The file.
        error: What is raised.

    Raises:
        PerceptioError: Of the given class: the file is missing, neither of these, broken or cut short, or an item is
            larger than `MAX_LINE_BYTES`.
    """
    with parsing(error, f"{path} cannot be read ({{reason}}): check the path and the disk."):
        if not path.is_file():
            raise error(f"{path} does not exist, or is no file: check the path.")
        with path.open(encoding="utf-8", newline="") as file:
            yield from _items(_Text(file), path, error)


class _Text:
    """What is left of a file, of which the beginning is in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file, self.held, self.at = file, "", 0

    def more(self) -> bool:
        """Hold at least twice as much, so that a long item is not parsed again for each chunk; False at the end."""
        chunk = self._file.read(max(CHUNK, len(self.held) - self.at))
        self.held, self.at = self.held[self.at :] + chunk, 0
        return chunk != ""

    def next_character(self) -> str:
        """The next one that is not blank, which stays where it is; empty at the end."""
        while True:
            while self.at < len(self.held):
                if self.held[self.at] not in " \t\r\n":
                    return self.held[self.at]
                self.at += 1
            if not self.more():
                return ""

    def next_value(self) -> Any:
        """The value that begins here.

        Raises:
            ValueError: There is none, or none that ends.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self.held, self.at)
            except (ValueError, RecursionError) as problem:
                unsaid = isinstance(problem, InvalidJSONError | RecursionError)
                if unsaid or len(self.held) - self.at > MAX_LINE_BYTES or not self.more():
                    raise
                continue
            if end < len(self.held) or not self.more():  # Of a number more digits may follow.
                self.at = end
                return value


def _items(text: _Text, path: Path, error: type[PerceptioError]) -> Iterator[Any]:
    first = text.next_character()
    if first not in ("[", "{"):
        raise error(f"{path} is neither a JSON list nor JSON lines: it begins with {first!r}.")
    listed = first == "["
    text.at += listed
    number = 0
    while True:
        found = text.next_character()
        if found == "]" and listed and number == 0:
            break
        try:
            value = text.next_value()
        except (ValueError, RecursionError) as problem:
            raise error(
                f"{path} is broken or cut short in its item {number + 1:,} ({problem}): download it again."
            ) from None
        yield value
        number += 1
        following = text.next_character()
        if following == ("]" if listed else ""):
            break
        if listed and following != ",":
            raise error(
                f"{path} is broken or cut short after its item {number:,}, where {following!r} stands in place of a "
                "comma: download it again."
            )
        text.at += listed
    text.at += listed
    if left := text.next_character():
        raise error(f"{path} goes on after the end of its list, with {left!r}: download it again.")
