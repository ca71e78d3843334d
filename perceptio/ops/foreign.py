"""The one boundary around foreign parsers: whatever fails inside becomes one sentence of ours.

Libraries that read images, arrays, weights or configurations raise whatever their authors thought of, and a list of
exceptions to expect is never complete. So every call into a parser stands in `parsing`, and only our own errors and
what is no failure of the file (Ctrl-C, an exit) pass through.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perceptio.errors import PerceptioError

LONGEST_REASON = 200
"""Characters of a parser's own words that a message quotes."""
RUST_PANIC = "PanicException"
"""What a library written in Rust raises when it gives up: no `Exception`, and no class that can be imported."""


@contextmanager
def parsing(error: type[PerceptioError], message: str) -> Iterator[None]:
    """Turn any failure of a foreign parser into a sentence.

    Args:
        error: What is raised.
        message: The sentence; `{reason}` in it becomes what the parser said, on one line. Other braces stay as they
            are, so that paths need no escaping.

    Raises:
        PerceptioError: Of the given class, when anything in the block fails; errors of this library pass unchanged.
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
    """Let the messages of our own errors begin with the file whose values they are about."""
    try:
        yield
    except PerceptioError as error:
        raise type(error)(f"{file}: {error}") from error


class MeasuredFile(io.BufferedReader):
    """A file for a parser that reads as many bytes as the file itself says: never asked for more than it has left.

    Python takes the memory for `read(n)` before it reads.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1) -> bytes:
        """Up to so many bytes."""
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def reason_of(failure: BaseException) -> str:
    """What an exception says, on one line and not too long; its type where it says nothing."""
    said = " ".join(str(failure).split()).rstrip(".")
    if not said or isinstance(failure, KeyError):
        said = f"{type(failure).__name__} {said}".strip()
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]}…"
