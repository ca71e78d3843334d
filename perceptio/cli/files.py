"""Paths that a verb is given."""

from contextlib import AbstractContextManager
from pathlib import Path

from perceptio.errors import CheckpointError, DataError, InputError
from perceptio.ops.files import check_replaceable, check_writable, disk_errors, expanded, is_free


def path(text: str | Path) -> Path:
    """A path as a user writes it, for the `parser` of every option that is one: a shell leaves `--out=~/x` alone.

    Raises:
        InputError: It is empty.
    """
    if not str(text):
        raise InputError(
            "A path is empty, as it is when a shell's variable is not set; . is the working folder."
        )
    return expanded(text)


def writing(out: Path) -> AbstractContextManager[None]:
    """Say in one sentence that something under `out` could not be written, as a `DataError`."""
    return disk_errors(out, DataError)


def open_folder(out: Path, *, replacing: bool = False) -> None:
    """Ask for a folder before the work whose results it is for, which would be lost without it.

    Args:
        out: The folder.
        replacing: Whether the whole folder is to be replaced, rather than files put into it.

    Raises:
        DataError: It cannot be written.
    """
    with writing(out):
        (check_replaceable if replacing else check_writable)(out)


def check_free(out: Path) -> None:
    """Ask for a folder that a checkpoint is to be written to, and refuse one that holds something.

    Raises:
        CheckpointError: It is not empty.
        DataError: It cannot be written.
    """
    if out.is_dir() and not is_free(out):
        raise CheckpointError(f"{out} is there already and is not empty: choose another --out, or remove it.")
    open_folder(out, replacing=True)
