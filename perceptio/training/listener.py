"""Callbacks that report how training goes."""

import logging
from collections.abc import Callable, Mapping

import attrs

logger = logging.getLogger(__name__)

Preparing = Callable[[str, int, int], None]
"""Called with what is being prepared, how much of it is done, and the total."""


@attrs.frozen(kw_only=True)
class Progress:
    """The progress of training, reported after every step."""

    step: int
    steps: int
    metrics: Mapping[str, float]
    seconds: float


@attrs.frozen(kw_only=True)
class Listener:
    """Callbacks that report how training goes, called only in the first process.

    Attributes:
        progress: Called after every step.
        preparing: Called before the first step with what is being prepared, how much of it is done, and the total.
        say: Called with sentences for the user.
        track: Trackers to send metrics to; see `perceptio.training.trackers`.
    """

    progress: Callable[[Progress], None] | None = None
    preparing: Preparing = lambda what, done, total: None
    say: Callable[[str], None] = logger.info
    track: tuple[str, ...] = ()
