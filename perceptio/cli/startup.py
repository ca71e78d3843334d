"""What keeps the start of a verb short, and its memory small."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

KERNELS_KEPT = "128"
"""Kernels that oneDNN, PyTorch's library for CPUs, keeps: more than one step of a small model needs (ours)."""


def bound_kernel_cache() -> None:
    """Keep oneDNN from filling the memory, here and in the processes that a verb starts, unless a user has said more.

    It makes a kernel for every shape that it multiplies in bfloat16, and keeps 1,024 of them, some of which take a
    megabyte. Batches are as long as their conversations, so that nearly every step brings new shapes: a training of
    the small Perceptio grew to 4.6 GiB within 520 steps, and no step of it was faster for that.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS_KEPT)


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
