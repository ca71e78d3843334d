"""Handling of Ctrl-C and SIGTERM at points where stopping is safe."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and the signal that cluster schedulers and containers send before they kill a process."""


class Stopped(KeyboardInterrupt):
    """Raised when work stops early, at a safe point, because of a signal.

    Attributes:
        signal: The signal's number; a shell expects the exit status 128 + `signal`.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class Interrupt:
    """Whether a signal has asked to stop."""

    def __init__(self) -> None:
        self.signal = 0

    def is_set(self) -> bool:
        """Return whether a signal was received."""
        return self.signal != 0

    def _set(self, number: int, _: FrameType | None) -> None:
        self.signal = number


@contextmanager
def interrupt_flag() -> Iterator[Interrupt]:
    """Turn Ctrl-C and SIGTERM into a flag, so that nothing in the block is interrupted midway.

    Check the flag where stopping is safe, and raise `Stopped` there. Outside the main thread, the only one that
    receives signals, the flag is never set.
    """
    flag = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, flag._set) for number in SIGNALS}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
