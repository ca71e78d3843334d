"""Reading and writing JSON and files of JSON lines.

Reading is limited in size and depth and accepts only valid JSON: no NaN, no infinity, no number beyond 64 bits, no
text that cannot be written as UTF-8. Only a newline character ends a line. Values are checked in the same way before
they are written to a file.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from perceptio.errors import DataError, PerceptioError
from perceptio.ops.files import disk_errors, new_file
from perceptio.ops.foreign import parsing

MAX_BYTES = 256 * 2**20
"""Maximum size of a file that is read as one JSON value."""
MAX_LINE_BYTES = 64 * 2**20
"""Maximum length of a line in a file of JSON lines."""
MAX_DEPTH = 64
"""Maximum nesting of lists and objects; a recipe has about 8 levels."""


class InvalidJSONError(ValueError):
    """Why a text is not usable JSON, as the end of a sentence such as "FILE is not JSON (…)"."""


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text.

    Raises:
        InvalidJSONError: It is not UTF-8, not JSON, nested deeper than `MAX_DEPTH`, or contains a number or a text
            that is not valid in JSON.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        else:
            text.encode("utf-8")
        value = DECODER.decode(text)
    except InvalidJSONError:
        raise
    except UnicodeError as error:
        raise InvalidJSONError(f"not UTF-8: {error}") from None
    except RecursionError:
        raise InvalidJSONError(f"nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise InvalidJSONError(str(error)) from None
    surrogates = "\\u" in text
    if surrogates or text.count("[") + text.count("{") > MAX_DEPTH:  # Otherwise it cannot be too deep.
        _check_depth_and_texts(value, surrogates=surrogates)
    return value


def format_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON text ending with a newline, which `parse_json` can read.

    Without `indent` it is one line: all characters outside ASCII are escaped, so no reader finds another line break.

    Raises:
        InvalidJSONError: The value contains something that JSON cannot represent, such as NaN or an unpaired
            surrogate.
    """
    separators = (",", ":") if indent is None else None
    try:
        text = json.dumps(
            value, indent=indent, separators=separators, ensure_ascii=indent is None, allow_nan=False
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidJSONError(str(error)) from error
    parse_json(text)
    return f"{text}\n"


def read_json(path: Path, *, error: type[PerceptioError] = DataError, remedy: str = "write it again") -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        error: The class of errors.
        remedy: The end of error messages: what to do about a broken file.

    Raises:
        PerceptioError: Of the given class: the file is missing, larger than `MAX_BYTES`, or not valid JSON.
    """
    with parsing(error, f"{path} cannot be read ({{reason}}): {remedy}."):
        if not path.is_file():
            raise error(f"{path} does not exist, or is no file: {remedy}.")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise error(f"{path} has {size:,} bytes, and JSON is read up to {MAX_BYTES:,}: {remedy}.")
        text = path.read_bytes()
    try:
        return parse_json(text)
    except InvalidJSONError as problem:
        raise error(f"{path} is not JSON ({problem}): {remedy}.") from problem


def write_json(path: Path, value: Any, *, error: type[PerceptioError] = DataError) -> None:
    """Write a value as indented JSON, atomically.

    Raises:
        PerceptioError: Of the given class: the file cannot be written, or the value cannot be represented in JSON.
    """
    try:
        text = format_json(value, indent=1)
    except InvalidJSONError as problem:
        raise error(f"What is to be written to {path} cannot be said in JSON ({problem}).") from problem
    with disk_errors(path, error), new_file(path) as new:
        new.write_text(text, encoding="utf-8")


class Line(NamedTuple):
    """A line of a file, without its line break."""

    number: int
    """Line number, from 1."""
    start: int
    """Offset in bytes."""
    text: bytes


def read_lines(path: Path, *, error: type[PerceptioError] = DataError) -> Iterator[Line]:
    """Yield the lines of a file that are not blank.

    Raises:
        PerceptioError: Of the given class: the file cannot be read, or a line is longer than `MAX_LINE_BYTES`.
    """
    with (
        parsing(error, f"{path} cannot be read ({{reason}}): check the path and the disk."),
        path.open("rb") as lines,
    ):
        number = start = 0
        while line := lines.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise error(
                    f"{path} line {number} is longer than {MAX_LINE_BYTES:,} bytes: break it up, or remove it."
                )
            if line.strip():
                yield Line(number, start, line.removesuffix(b"\n").removesuffix(b"\r"))
            start += len(line)


def read_line(path: Path, start: int, *, error: type[PerceptioError] = DataError) -> bytes:
    """Return the line at a byte offset of a file.

    Raises:
        PerceptioError: Of the given class: the file cannot be read.
    """
    with (
        parsing(error, f"{path} cannot be read ({{reason}}): check the path and the disk."),
        path.open("rb") as lines,
    ):
        lines.seek(start)
        return lines.readline(MAX_LINE_BYTES)


def without_nan(value: Any) -> Any:
    """Return a value with None for every number that is not finite, such as a figure without anything to measure."""
    if isinstance(value, dict):
        return {key: without_nan(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: Path, value: Any) -> None:
    """Append a value to a log of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(format_json(value))


def read_log(path: Path, *, error: type[PerceptioError] = DataError) -> tuple[list[Any], str | None]:
    """Return the values of a log of JSON lines, and an incomplete last line, or None.

    A process that dies while appending leaves an incomplete line. If the last line is not JSON or has no line break,
    this is therefore no error, and its text is returned with the values. A missing log has no values.

    Raises:
        PerceptioError: Of the given class: the log cannot be read, or a line before the last is not JSON.
    """
    if not path.exists():
        return [], None
    values: list[Any] = []
    torn: tuple[int, str, InvalidJSONError] | None = None
    size = path.stat().st_size
    for number, start, line in read_lines(path, error=error):
        if torn is not None:
            raise error(f"{path} line {torn[0]} is not JSON ({torn[2]}): remove that line.")
        try:
            value = parse_json(line)
            if start + len(line) >= size:  # The next append would continue this line.
                raise InvalidJSONError("it has no line end")
            values.append(value)
        except InvalidJSONError as problem:
            torn = number, line.decode("utf-8", errors="replace"), problem
    return values, None if torn is None else torn[1]


def rewrite_log(path: Path, values: list[Any]) -> None:
    """Replace a log of JSON lines, atomically."""
    with new_file(path) as new:
        new.write_text("".join(map(format_json, values)), encoding="utf-8")


def _constant(name: str) -> float:
    raise InvalidJSONError(f"{name} is no number of JSON")


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else None
    if value is None or not -(2**63) <= value < 2**64:
        raise InvalidJSONError(f"the number {digits[:20]}… is beyond 64 bits")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidJSONError(f"the number {digits[:20]} is beyond 64 bits")
    return value


DECODER = json.JSONDecoder(parse_constant=_constant, parse_int=_integer, parse_float=_float)
"""Checks numbers; `parse_json` checks depth and texts."""


def _check_depth_and_texts(value: Any, *, surrogates: bool) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:
            raise InvalidJSONError(f"nested deeper than {MAX_DEPTH}")
        inner: list[Any] = []
        for held in level:
            if isinstance(held, dict):
                inner += held.values()
                if surrogates:
                    inner += held
            elif isinstance(held, list):
                inner += held
            elif surrogates and isinstance(held, str):
                try:
                    held.encode("utf-8")
                except UnicodeEncodeError:
                    raise InvalidJSONError(
                        f"the text {held[:40]!r} has half a surrogate pair, which is no character"
                    ) from None
        level = inner
