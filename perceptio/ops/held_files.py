"""A file that is held in memory, such as one read out of a tar shard, where a path would do otherwise."""

import io
from pathlib import Path
from typing import BinaryIO

import attrs

from perceptio.ops.foreign import MeasuredFile


@attrs.frozen(eq=False)
class HeldFile:
    """The content of a file, and what messages call it."""

    name: str
    content: bytes

    @property
    def suffix(self) -> str:
        """The ending of its name, as a path has it."""
        return Path(self.name).suffix

    def __str__(self) -> str:
        return self.name


AnyFile = Path | HeldFile


def opened(file: AnyFile) -> BinaryIO:
    """A file to read from, which is never asked for more than it holds."""
    return io.BytesIO(file.content) if isinstance(file, HeldFile) else MeasuredFile(file)
