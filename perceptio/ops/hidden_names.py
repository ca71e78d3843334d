"""Hidden names beside a place: of what is being written to it, locked by its writer, and of what stepped aside."""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what a killed process left stays there.
    fcntl = None  # type: ignore[assignment]

LONGEST_NAME = 255
"""Bytes that a file's name may have on the usual file systems."""


def hidden(place: Path, state: str) -> Path:
    """A hidden name beside a place that says whose it is; a name too long for that is hashed."""
    name, end = place.name, f".{state}" if state else ""
    if len(os.fsencode(name)) + len(end) + 1 > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return place.with_name(f".{name}{end}")


def new_name(place: Path, number: int) -> Path:
    """The name of what is being written to a place, with the ending that it will have."""
    return hidden(place, f"new-{number}{place.suffix}")


def all_new(place: Path) -> list[Path]:
    """Whatever has a hidden name that writers of a place use."""
    pattern = re.escape(hidden(place, f"new-\0{place.suffix}").name).replace("\0", r"\d+")
    names = re.compile(pattern)
    if not place.parent.is_dir():
        return []
    return [place.with_name(name) for name in os.listdir(place.parent) if names.fullmatch(name)]


def old_name(place: Path) -> Path:
    """The name of what was at a place and is being replaced."""
    return hidden(place, "old")


def aside_name(place: Path, state: str) -> Path:
    """The name, in a folder, of a state of the exchange of its entries."""
    return hidden(place / "entries", state)


@contextmanager
def claimed(place: Path, create: Callable[[Path], None]) -> Iterator[tuple[Path, int]]:
    """A hidden name beside a place, locked for as long as its writer lives, and the mode that it was made with.

    The mode has the umask in it, which can be asked for only by changing it for a moment, for all threads. What a
    writer that was killed left under the name is removed; that of a living one is locked, and the next name is tried.
    """
    for number in count(1):
        new = new_name(place, number)
        if not remove_if_dead(new):
            continue
        with suppress(FileExistsError):  # Another writer was faster.
            create(new)
            descriptor, mine = _locked(new)
            if mine:
                break
            if descriptor is not None:
                os.close(descriptor)
    mode = stat.S_IMODE(new.stat().st_mode)
    try:
        yield new, mode
    finally:
        # What has its place already may have left the name to another writer.
        if descriptor is None or _is_at(new, descriptor):
            remove(new)
        if descriptor is not None:
            os.close(descriptor)


def remove_if_dead(new: Path) -> bool:
    """Remove what a killed writer left under a name; whether the name is free now."""
    if not os.path.lexists(new):
        return True
    try:
        descriptor, mine = _locked(new)
    except OSError:  # Another user's.
        return False
    if descriptor is None:
        return False
    if mine:
        remove(new)
    os.close(descriptor)
    return mine and not os.path.lexists(new)


def _locked(path: Path) -> tuple[int | None, bool]:
    """A descriptor with the lock on a file or folder, where there are locks; and whether it is this process's now.

    It is not when another process has the lock, or had it just now and removed what was under the name.
    """
    if fcntl is None:
        return None, True
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None, False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor, _is_at(path, descriptor)
    except BlockingIOError:
        mine = False
    except OSError:  # A file system without locks.
        mine = True
    os.close(descriptor)
    return None, mine


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether what is open is what has the name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
