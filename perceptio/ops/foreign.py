"""The boundary around foreign parsers: every failure inside becomes one sentence of this library.

Libraries that read images, arrays, weights or configurations raise many kinds of exceptions, and a list of them would
never be complete. Therefore every call into a parser is inside `parsing`. Only this library's own errors, and events
that are no failure of the file (Ctrl-C, an exit), pass through.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perceptio.errors import PerceptioError

LONGEST_REASON = 200
"""Maximum number of characters quoted from a parser's message."""
RUST_PANIC = "PanicException"
"""The type that Rust libraries raise for a panic: not an `Exception`, and not importable."""


@contextmanager
def parsing(error: type[PerceptioError], message: str) -> Iterator[None]:
    """Turn any failure of a foreign parser into a sentence.

    Args:
        error: The class of the error to raise.
        message: The sentence; `{reason}` in it is replaced by the parser's message on one line. Other braces are
            kept, so paths need no escaping.

    Raises:
        PerceptioError: Of the given class, if anything in the block fails; errors of this library pass unchanged.
    """
    try:
        yield
    except PerceptioError:
        raise
    except BaseException as failure:
        if not isinstance(failure, Exception) and type(failure).__name__ != RUST_PANIC:
            raise
        raise error(message.replace("{reason}", reason_of(failure))) from failure


@contextmanager
def naming(file: Path | str) -> Iterator[None]:
    """Prefix the messages of this library's errors with the file that they are about."""
    try:
        yield
    except PerceptioError as error:
        raise type(error)(f"{file}: {error}") from error


class MeasuredFile(io.BufferedReader):
    """A file for a parser whose reads are limited to the bytes that are left.

    Without the limit, a file whose header states a wrong size could make Python allocate memory for it before
    reading.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1) -> bytes:
        """Read at most `size` bytes."""
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def reason_of(failure: BaseException) -> str:
    """Return an exception's message on one line, truncated; its type if the message is empty."""
    said = " ".join(str(failure).split()).rstrip(".")
    if not said or isinstance(failure, KeyError):
        said = f"{type(failure).__name__} {said}".strip()
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]}…"
