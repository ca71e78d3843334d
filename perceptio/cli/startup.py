"""What keeps the start of a verb short."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Import and build without Python's cycle collector; also a decorator.

    The modules of torch and transformers make about a million objects, all of which stay. The collector would visit
    them again and again while they are made, and three times more when the process ends: together a quarter of the
    processor time of `perceptio explain`.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
