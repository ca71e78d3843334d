"""Atomic writing of files and folders: either completely or not at all.

New content has a hidden name beside its place until it is complete and synced to the disk; then one rename puts it in
place. An existing folder is first moved aside, so replacing one needs two renames; `recover` restores it if a process
was killed between them. A folder that cannot be renamed, because it is a mount point or the working directory, stays
in place, and its entries are moved aside instead.

Files get the modes that the umask gives to new files. Targets that are symbolic links are followed.
"""

import errno
import os
import re
import shutil
import stat
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from perceptio.errors import PerceptioError, quoted
from perceptio.ops.hidden_names import (
    all_new,
    aside_name,
    claimed,
    hidden,
    old_name,
    remove,
    remove_if_dead,
)

LOCK = ".lock"
_FILE_URL = re.compile(r"file:/+", re.IGNORECASE)
"""The beginning of a file URL; a `Path` made from one has lost slashes."""
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}
"""Errors with which a disk refuses to write; they need not name a file."""
SYNCS = 16
"""Number of a folder's files that are synced in parallel, which takes a fifteenth of the time of one by one."""


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Yield a hidden path beside `path` to write to; it replaces `path` if the block succeeds.

    It keeps the suffix, which some writers check. Missing parent folders are created.

    Raises:
        OSError: The place cannot be written; an earlier file is unchanged.
    """
    place = _followed(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with claimed(place, lambda new: os.close(os.open(new, os.O_CREAT | os.O_EXCL, 0o666))) as (new, mode):
        yield new
        new.chmod(mode)
        _sync(new)
        os.replace(new, place)
    _sync(place.parent)


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty hidden folder to write to; it replaces `path` if the block succeeds.

    Raises:
        OSError: The place cannot be written, or is a file; an earlier folder is unchanged.
    """
    place = _followed(path)
    _refuse_file(place)
    in_place = _stays(place)
    beside = place / "entries" if in_place else place
    beside.parent.mkdir(parents=True, exist_ok=True)
    recover(place)
    with claimed(beside, os.mkdir) as (new, mode):
        yield new
        _finish(new, mode)
        if in_place:
            _exchange_entries(place, new)
        else:
            _exchange(place, new)


def whole(path: Path | str) -> Path:
    """Return where to read a folder: its place, or where a process that was killed while replacing it left it.

    Raises:
        BlockingIOError: Its entries are being replaced, or were when the process was killed; `recover` repairs this.
        OSError: `path` is not a valid path.
    """
    place = _followed(path)
    if not place.exists() and old_name(place).is_dir():
        return old_name(place)
    if aside_name(place, "old").is_dir():
        return aside_name(place, "old")
    if aside_name(place, "leaving").is_dir():
        raise BlockingIOError(
            errno.EAGAIN, "it is being replaced, or its writer was killed in that", str(place)
        )
    return expanded(path)


def recover(path: Path | str) -> bool:
    """Restore a folder that a process was replacing when it was killed.

    Returns:
        Whether there was something to restore.

    Raises:
        OSError: It cannot be restored.
    """
    place = _followed(path)
    for beside in (place, place / "entries"):
        for new in all_new(beside):
            remove_if_dead(new)
    old = old_name(place)
    if old.is_dir() and not place.exists():
        os.rename(old, place)
        _sync(place.parent)
        return True
    shutil.rmtree(old, ignore_errors=True)
    return _recover_entries(place)


@contextmanager
def folder_lock(folder: Path | str) -> Iterator[None]:
    """Lock a folder for this process; the lock is released when the process ends, in whatever way.

    Raises:
        BlockingIOError: Another process holds the lock.
        OSError: The folder cannot be written.
    """
    from filelock import FileLock, Timeout

    place = _followed(folder)
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(errno.EWOULDBLOCK, "another process is writing there", str(folder)) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def disk_errors(place: Path | str, error: type[PerceptioError]) -> Iterator[None]:
    """Turn disk errors under `place` into one sentence; errors about files elsewhere pass unchanged.

    Raises:
        PerceptioError: Of the given class.
    """
    try:
        yield
    except PerceptioError:
        raise
    except Exception as failure:
        refused = _as_os_error(failure)
        if refused is None or not _concerns(refused, Path(place)):
            raise
        reason, remedy = _reason(refused), "choose another place"
        if refused.errno in (errno.ENOSPC, errno.EDQUOT):
            reason, remedy = "the disk is full", "make room"
        elif isinstance(refused, BlockingIOError):
            remedy = "wait for that, or choose another place"
        raise error(
            f"{place} could not be written ({reason}): {remedy}. What was there before is unchanged."
        ) from failure


def check_replaceable(path: Path | str) -> None:
    """Check that a folder can be written or replaced, before doing the work whose result it will hold.

    Raises:
        OSError: `path` is a file, or neither it nor its parent folder can be written.
    """
    place = _followed(path)
    _refuse_file(place)
    beside = place / "entries" if _stays(place) else place
    beside.parent.mkdir(parents=True, exist_ok=True)
    with claimed(beside, os.mkdir):
        pass


def check_only(path: Path | str, *, known_by: Collection[str], own: Collection[str]) -> None:
    """Refuse to replace a folder that holds anything that a writer of its kind did not put there.

    Args:
        path: The folder, which may be missing or empty.
        known_by: Names of which a folder of this kind has at least one.
        own: Patterns of all names that such a writer writes.

    Raises:
        FileExistsError: It holds something else, which would be lost.
    """
    if is_free(path):
        return
    place = _followed(path)
    _refuse_file(place)
    names = sorted(entry.name for entry in _entries(place))
    others = [name for name in names if not any(fnmatchcase(name, one) for one in (*known_by, *own))]
    if not others and not set(known_by) & set(names):
        others = names
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise FileExistsError(
            errno.EEXIST, f"it holds {quoted(others[0])}{more}, which would be lost", str(path)
        )


def check_writable(path: Path | str) -> None:
    """Check that files can be written into a folder, before doing the work whose results they will hold.

    Raises:
        OSError: `path` is a file, or the folder cannot be created or written.
    """
    place = _followed(path)
    _refuse_file(place)
    place.mkdir(parents=True, exist_ok=True)
    with claimed(place / "files", os.mkdir):
        pass


def is_free(path: Path | str) -> bool:
    """Return whether a folder can be written to a place without losing anything: it is missing or empty.

    Lock files, and entries that belong to this module or to a file system, do not count.
    """
    place = _followed(path)
    return not place.exists() or (place.is_dir() and not _entries(place))


def expanded(path: Path | str) -> Path:
    """Expand `~` or a `file:///path` address; like a shell, leave `~name` of an unknown user unchanged."""
    if (url := _FILE_URL.match(str(path))) is not None:
        return Path("/", str(path)[url.end() :])
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def path_text(path: Path | str) -> str:
    """Return a path as text for a document, with bytes that are not UTF-8 escaped."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


# -- one rename, and two ------------------------------------------------------------------------------------------


def _exchange(place: Path, new: Path) -> None:
    old = old_name(place)
    if place.exists():
        try:
            os.rename(place, old)
        except OSError as refused:
            if refused.errno != errno.EBUSY:
                raise
            # A mount that the system does not report, such as a bind mount of a folder on the same disk.
            with claimed(place / "entries", os.mkdir) as (inside, _):
                shutil.copytree(new, inside, dirs_exist_ok=True)
                _finish(inside, stat.S_IMODE(new.stat().st_mode))
                _exchange_entries(place, inside)
            return
    try:
        os.rename(new, place)
    except OSError:
        if old.exists():
            os.rename(old, place)
        raise
    _sync(place.parent)
    shutil.rmtree(old, ignore_errors=True)


# A folder that stays in place passes through three states: its entries are moved into `leaving`; that is renamed to
# `old`, and the new entries are moved in; `old` is renamed to `gone`, and removed. After a kill in the first two
# states, the entries are restored.


def _exchange_entries(place: Path, new: Path) -> None:
    leaving, old, gone = (aside_name(place, state) for state in ("leaving", "old", "gone"))
    try:
        leaving.mkdir()
        for entry in _entries(place):
            os.rename(entry, leaving / entry.name)
        os.rename(leaving, old)
        for entry in list(new.iterdir()):
            os.rename(entry, place / entry.name)
        os.rename(old, gone)
    except OSError:
        _recover_entries(place)
        raise
    _sync(place)
    shutil.rmtree(gone, ignore_errors=True)


def _recover_entries(place: Path) -> bool:
    leaving, old, gone = (aside_name(place, state) for state in ("leaving", "old", "gone"))
    shutil.rmtree(gone, ignore_errors=True)
    if old.is_dir():
        for entry in _entries(place):
            remove(entry)
        os.rename(old, leaving)
    if not leaving.is_dir():
        return False
    for entry in list(leaving.iterdir()):
        os.rename(entry, place / entry.name)
    leaving.rmdir()
    _sync(place)
    return True


def _entries(place: Path) -> list[Path]:
    """Return the entries of a folder, except those that belong to this module or to a file system."""
    ours = re.compile(r"\.entries\.(new-\d+|leaving|old|gone)|lost\+found")
    return [entry for entry in place.iterdir() if not ours.fullmatch(entry.name) and entry.name != LOCK]


# -- names --------------------------------------------------------------------------------------------------------


def _followed(path: Path | str) -> Path:
    try:
        return Path(os.path.realpath(expanded(path)))
    except ValueError as error:  # A NUL.
        raise OSError(errno.EINVAL, str(error), str(path)) from error


def _stays(place: Path) -> bool:
    """Return whether a folder cannot be renamed, or must not be because it contains the working directory."""
    with suppress(FileNotFoundError):  # The working directory was deleted.
        if Path.cwd().is_relative_to(place):
            return True
    return place.is_dir() and (os.path.ismount(place) or not os.access(place.parent, os.W_OK))


def _refuse_file(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is there, and a folder is to be written", str(place))


# -- modes, and the disk ------------------------------------------------------------------------------------------


def _finish(new: Path, mode: int) -> None:
    """Give everything in a folder the modes of new files, and wait until it is synced to the disk."""
    written: list[Path] = []
    for folder, _, files in os.walk(new):
        written += (Path(folder, name) for name in files)
        os.chmod(folder, mode)
        written.append(Path(folder))

    def finish(path: Path) -> None:
        if not path.is_symlink():
            if path.is_file():
                path.chmod(mode & 0o666)
            _sync(path)

    with ThreadPoolExecutor(SYNCS) as pool:
        deque(pool.map(finish, written), maxlen=0)


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are synced to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # The file system cannot sync.
            raise
    finally:
        os.close(descriptor)


def _as_os_error(failure: Exception) -> OSError | None:
    """Return the disk error behind a writer's exception; safetensors only quotes it, and numpy says less."""
    if re.search(r"\d+ requested and \d+ written", str(failure)):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if isinstance(failure, OSError):
        return failure
    quoted = re.search(r"\(os error (\d+)\)", str(failure))
    return OSError(int(quoted[1]), os.strerror(int(quoted[1]))) if quoted else None


def _concerns(refused: OSError, place: Path) -> bool:
    """Return whether an OS error names no file but a disk's refusal, or names a file in, beside or above `place`."""
    if not isinstance(refused.filename, str | bytes | os.PathLike):
        return refused.errno in REFUSALS
    if os.fspath(refused.filename) == os.fspath(place):
        return True
    named, place = Path(os.path.realpath(os.fsdecode(refused.filename))), _followed(place)
    beside = named.relative_to(place.parent).parts[:1] if named.is_relative_to(place.parent) else ()
    ours = any(name.startswith(hidden(place, "").name) for name in beside)
    return ours or named.is_relative_to(place) or place.is_relative_to(named)


def _reason(refused: OSError) -> str:
    return f"{refused.strerror or refused}" + (f": {refused.filename}" if refused.filename else "")
