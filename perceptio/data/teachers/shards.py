"""Several processes, on one or several machines, that share one pass: each processes every n-th image.

They only need a folder that all of them can access: no process waits for another, a killed one is started again, and
the last one to end completes the data folder. In its hidden folder `.shards`

    2-of-3.lock     is locked while a process works on the second of three shards, however the process ends
    2-of-3.batches  is its log of batches
    2-of-3.json     says, when the shard has ended, which images have no depth, and why

and the folder is removed when the data folder is complete. A pass without shards is the shard 1 of 1.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

import attrs

from perceptio.errors import DataError, InputError, quoted
from perceptio.ops.files import LOCK
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import read_json, write_json

T = TypeVar("T")

FOLDER = ".shards"
PATIENCE_S = 600.0
"""Seconds that a process waits while another one checks what is done, or completes the folder."""
_NAME = re.compile(r"([1-9]\d*)-of-([1-9]\d*)\.(lock|json)")


@attrs.frozen(order=True)
class Shard:
    """One of `count` shares of the work: the items number-1, number-1+count, … of a list, counting from 0.

    Attributes:
        number: From 1 to `count`.
        count: Number of shards.
    """

    number: int = 1
    count: int = 1

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise InputError(
                f"The shard {self.number}/{self.count} is none: shards are counted from 1/{max(1, self.count)} to "
                f"{max(1, self.count)}/{max(1, self.count)}."
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a shard, such as `2/8`.

        Raises:
            InputError: It is not valid.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None:
            raise InputError(f"--shard is {quoted(text)}; write which of how many it is, such as 2/8.")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of_rank(cls, environment: Mapping[str, str]) -> Self:
        """Return the shard of a process that torchrun started, from its `RANK` and `WORLD_SIZE`; 1/1 without them."""
        return cls(int(environment.get("RANK", 0)) + 1, int(environment.get("WORLD_SIZE", 1)))

    def within(self, outer: "Shard") -> "Shard":
        """Return this shard of a shard: the processes of one machine divide the machine's shard."""
        return Shard((outer.number - 1) * self.count + self.number, outer.count * self.count)

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items of this shard."""
        return items[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@contextmanager
def claim(shard: Shard, out: Path) -> Iterator[None]:
    """Lock a shard of a data folder for this process; enter this inside `one_at_a_time`.

    Raises:
        DataError: Another process works on it, or the work was started with another number of shards.
    """
    from filelock import FileLock, Timeout

    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    _check_others(shard, out)
    own = FileLock(out / FOLDER / _named(shard, "lock"), timeout=0)
    try:
        own.acquire()
    except Timeout:
        raise DataError(_taken(shard, out)) from None
    try:
        yield
    finally:
        own.release()


@contextmanager
def one_at_a_time(out: Path) -> Iterator[None]:
    """Guard work that only one process may do on a data folder at a time; others wait.

    Raises:
        DataError: Another process has held the folder for `PATIENCE_S`.
    """
    from filelock import FileLock, Timeout

    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, timeout=PATIENCE_S)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(
            f"Another process has kept {out} for {PATIENCE_S:.0f} seconds: wait for it, or end it."
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_begun(out: Path) -> bool:
    """Return whether a process works, or has worked, on a data folder."""
    return (out / FOLDER).is_dir()


def log_of(shard: Shard, out: Path) -> Path:
    """Return the file in which a shard logs its batches."""
    return out / FOLDER / _named(shard, "batches")


def finish(shard: Shard, out: Path, broken: Mapping[str, str]) -> dict[str, str]:
    """Record that a shard has ended.

    Args:
        shard: The shard.
        out: The data folder.
        broken: The shard's images without depth, by their paths in the data folder, and why.

    Returns:
        The same for all shards that have ended.
    """
    write_json(out / FOLDER / _named(shard, "json"), {"broken": _as_text(broken)})
    found: dict[str, str] = {}
    for other in _files(out, "json"):
        if other.count == shard.count:
            file = out / FOLDER / _named(other, "json")
            with parsing(
                DataError, f"{file} cannot be read ({{reason}}): remove it, and run shard {other} again."
            ):
                found |= {str(picture): str(why) for picture, why in read_json(file)["broken"].items()}
    return found


def forget(out: Path) -> None:
    """Remove what shards have left in a complete data folder."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def _as_text(broken: Mapping[str, str]) -> dict[str, str]:
    """Return reasons without characters that are not UTF-8, which names of files may contain."""
    return {name: why.encode("utf-8", "replace").decode("utf-8") for name, why in broken.items()}


def _check_others(shard: Shard, out: Path) -> None:
    there = set(_files(out, "lock")) | set(_files(out, "json"))
    others = sorted(other for other in there if other.count != shard.count)
    for other in others:
        if _is_held(out / FOLDER / _named(other, "lock")):
            raise DataError(_taken(other, out))
    begun = {other.count for other in others if other.count > 1}
    if begun and shard.count > 1:
        count = max(begun)
        raise DataError(
            f"{out} was begun in {count} shards, and {shard} is one of {shard.count}: give --shard 1/{count} to "
            f"{count}/{count}, or none to do the rest at once; or remove {out / FOLDER} to begin in other shards, "
            "which keeps the depth that is there."
        )


def _taken(shard: Shard, out: Path) -> str:
    what = "it" if shard.count == 1 else f"shard {shard} of it"
    return f"{out} cannot be written: another process is at {what}; wait for that, or end it."


def _is_held(file: Path) -> bool:
    from filelock import FileLock, Timeout

    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def _files(out: Path, ending: str) -> Iterator[Shard]:
    for name in sorted(os.listdir(out / FOLDER)):
        found = _NAME.fullmatch(name)
        if found is not None and found[3] == ending:
            with suppress(InputError):  # Somebody else's name.
                yield Shard(int(found[1]), int(found[2]))


def _named(shard: Shard, ending: str) -> str:
    return f"{shard.number}-of-{shard.count}.{ending}"
