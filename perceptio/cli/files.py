"""Paths given on the command line."""

from contextlib import AbstractContextManager
from pathlib import Path

from perceptio.errors import CheckpointError, DataError, InputError
from perceptio.ops.files import check_replaceable, check_writable, disk_errors, expanded, is_free


def path(text: str | Path) -> Path:
    """Expand a path as the user wrote it; the `parser` of every path option, as a shell does not expand `--out=~/x`.

    Raises:
        InputError: The path is empty.
    """
    if not str(text):
        raise InputError(
            "A path is empty, as it is when a shell's variable is not set; . is the working folder."
        )
    return expanded(text)


def writing(out: Path) -> AbstractContextManager[None]:
    """Turn errors of writing under `out` into a `DataError` of one sentence."""
    return disk_errors(out, DataError)


def open_folder(out: Path, *, replacing: bool = False) -> None:
    """Check that results can be written to a folder before doing the work that produces them.

    Args:
        out: The folder.
        replacing: Whether the whole folder will be replaced, rather than files put into it.

    Raises:
        DataError: The folder cannot be written.
    """
    with writing(out):
        (check_replaceable if replacing else check_writable)(out)


def check_free(out: Path) -> None:
    """Check that a checkpoint can be written to a folder, which must be empty or absent.

    Raises:
        CheckpointError: The folder is not empty.
        DataError: The folder cannot be written.
    """
    if out.is_dir() and not is_free(out):
        raise CheckpointError(f"{out} is there already and is not empty: choose another --out, or remove it.")
    open_folder(out, replacing=True)
