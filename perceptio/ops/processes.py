"""Whether this process is one of several that train together."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import distributed

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def in_process_group() -> bool:
    """Return whether several processes train together, and this one is not in an `alone` block."""
    several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return several and not _ALONE.get()


@contextmanager
def alone() -> Iterator[None]:
    """Mark work that one of several processes does while the others wait: nothing in the block is synchronized."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)
