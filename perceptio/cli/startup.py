"""Measures that keep the startup of a verb short and its memory small."""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

KERNELS_KEPT = "512"
"""Kernels that oneDNN, PyTorch's library for CPUs, caches: more than training a small model needs (ours)."""


def bound_kernel_cache() -> None:
    """Limit oneDNN's kernel cache here and in child processes, unless the user has set a limit.

    oneDNN compiles a kernel for every shape that it multiplies in bfloat16 and caches 1,024 of them, some of which
    take a megabyte. Training pads batches to few sizes (`perceptio.model.network.SIZE_MULTIPLE`), so that 200 steps
    of the small Perceptio need 350 kernels. Batches of very different lengths can need more.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS_KEPT)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Import and build without Python's cycle collector; also a decorator.

    The modules of torch and transformers create about a million objects, all of which stay. The collector would
    visit them repeatedly while they are created, and three more times when the process ends: together a quarter of
    the processor time of `perceptio explain`.
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
