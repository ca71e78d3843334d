"""The items of a large JSON file, one at a time: of a list too long for memory, or consecutive objects.

Python's own parser (`raw_decode`) reports where an item at the beginning of a text ends. This suffices to read a
gigabyte within a few megabytes of memory, as fast as reading it at once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from perceptio.errors import DataError, PerceptioError
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import DECODER, MAX_LINE_BYTES, InvalidJSONError

CHUNK = 2**20
"""Number of characters that are read at a time."""


def read_items(path: Path, *, error: type[PerceptioError] = DataError) -> Iterator[Any]:
    """Yield the items of a JSON list, or of a file of JSON objects such as JSON lines, in order.

    Texts may contain unpaired surrogates, which cannot be written to a file; code that keeps an item must check this.

    Args:
        path: The file.
        error: The class of errors.

    Raises:
        PerceptioError: Of the given class: the file is missing, neither of these, broken or truncated, or an item is
            larger than `MAX_LINE_BYTES`.
    """
    with parsing(error, f"{path} cannot be read ({{reason}}): check the path and the disk."):
        if not path.is_file():
            raise error(f"{path} does not exist, or is no file: check the path.")
        with path.open(encoding="utf-8", newline="") as file:
            yield from _items(_Text(file), path, error)


class _Text:
    """The unread part of a file, whose beginning is in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file, self.held, self.at = file, "", 0

    def more(self) -> bool:
        """Read more, at least doubling the text in memory, so that long items are parsed rarely; False at the end."""
        chunk = self._file.read(max(CHUNK, len(self.held) - self.at))
        self.held, self.at = self.held[self.at :] + chunk, 0
        return chunk != ""

    def next_character(self) -> str:
        """Return the next character that is not whitespace, without consuming it; empty at the end."""
        while True:
            while self.at < len(self.held):
                if self.held[self.at] not in " \t\r\n":
                    return self.held[self.at]
                self.at += 1
            if not self.more():
                return ""

    def next_value(self) -> Any:
        """Return and consume the value that begins here.

        Raises:
            ValueError: There is no value, or an incomplete one.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self.held, self.at)
            except (ValueError, RecursionError) as problem:
                unsaid = isinstance(problem, InvalidJSONError | RecursionError)
                if unsaid or len(self.held) - self.at > MAX_LINE_BYTES or not self.more():
                    raise
                continue
            if end < len(self.held) or not self.more():  # A number may continue in the next chunk.
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
