"""A file held in memory, such as one read from a tar shard, in places that otherwise take a path."""

import io
from pathlib import Path
from typing import BinaryIO

import attrs

from perceptio.ops.foreign import MeasuredFile


@attrs.frozen(eq=False)
class HeldFile:
    """The content of a file, and its name in messages."""

    name: str
    content: bytes

    @property
    def suffix(self) -> str:
        """The suffix of its name, as of a path."""
        return Path(self.name).suffix

    def __str__(self) -> str:
        return self.name


AnyFile = Path | HeldFile


def opened(file: AnyFile) -> BinaryIO:
    """Open a file for reading, with reads limited to what it holds."""
    return io.BytesIO(file.content) if isinstance(file, HeldFile) else MeasuredFile(file)
