"""Hidden names beside a place: for content being written, locked by its writer, and for content moved aside."""

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
except ImportError:  # On Windows, leftovers of killed processes stay.
    fcntl = None  # type: ignore[assignment]

LONGEST_NAME = 255
"""Maximum length of a file name in bytes on common file systems."""


def hidden(place: Path, state: str) -> Path:
    """Return a hidden name beside a place that includes the place's name; too long a name is hashed."""
    name, end = place.name, f".{state}" if state else ""
    if len(os.fsencode(name)) + len(end) + 1 > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return place.with_name(f".{name}{end}")


def new_name(place: Path, number: int) -> Path:
    """Return the name for content being written to a place, with the place's suffix."""
    return hidden(place, f"new-{number}{place.suffix}")


def all_new(place: Path) -> list[Path]:
    """Return all paths with the hidden names that writers of a place use."""
    pattern = re.escape(hidden(place, f"new-\0{place.suffix}").name).replace("\0", r"\d+")
    names = re.compile(pattern)
    if not place.parent.is_dir():
        return []
    return [place.with_name(name) for name in os.listdir(place.parent) if names.fullmatch(name)]


def old_name(place: Path) -> Path:
    """Return the name for earlier content of a place that is being replaced."""
    return hidden(place, "old")


def aside_name(place: Path, state: str) -> Path:
    """Return the name, inside a folder, for a state of the exchange of its entries."""
    return hidden(place / "entries", state)


@contextmanager
def claimed(place: Path, create: Callable[[Path], None]) -> Iterator[tuple[Path, int]]:
    """Yield a hidden name beside a place, locked while its writer lives, and the mode that it was created with.

    The mode reflects the umask, which could otherwise be read only by changing it briefly for all threads. Leftovers
    of a killed writer under the name are removed; if its writer is alive, it is locked, and the next name is tried.
    """
    for number in count(1):
        new = new_name(place, number)
        if not remove_if_dead(new):
            continue
        with suppress(FileExistsError):  # Another writer was first.
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
        # Content that was already renamed may have left the name to another writer.
        if descriptor is None or _is_at(new, descriptor):
            remove(new)
        if descriptor is not None:
            os.close(descriptor)


def remove_if_dead(new: Path) -> bool:
    """Remove what a killed writer left under a name; return whether the name is free."""
    if not os.path.lexists(new):
        return True
    try:
        descriptor, mine = _locked(new)
    except OSError:  # It belongs to another user.
        return False
    if descriptor is None:
        return False
    if mine:
        remove(new)
    os.close(descriptor)
    return mine and not os.path.lexists(new)


def _locked(path: Path) -> tuple[int | None, bool]:
    """Return a descriptor that locks a file or folder, if locks exist, and whether this process now holds it.

    It does not if another process holds the lock, or has just held it and removed the content.
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
    except OSError:  # The file system has no locks.
        mine = True
    os.close(descriptor)
    return None, mine


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether the open file is still the one with this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
