"""What a verb writes, and one sentence where the disk refuses it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perceptio.errors import DataError


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Say in one sentence that something under `out` could not be written.

    Raises:
        DataError: The disk is full, or the place cannot be written. An error that names a file elsewhere is raised
            as it is.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and not _on_the_way(
            Path(os.path.abspath(error.filename)), out.absolute()
        ):
            raise
        raise DataError(
            f"{out} could not be written ({error}): make room, or choose another --out."
        ) from error


def _on_the_way(file: Path, out: Path) -> bool:
    """Whether a file lies in a folder, or is one of the folders that lead there."""
    return file.is_relative_to(out) or out.is_relative_to(file)


def open_folder(out: Path) -> None:
    """Make a folder before the work whose results it is for, which would be lost without it.

    Raises:
        DataError: It cannot be made.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(13, "Permission denied", str(out))
