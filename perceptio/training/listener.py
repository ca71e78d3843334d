"""Who is told how training goes."""

import logging
from collections.abc import Callable, Mapping

import attrs

logger = logging.getLogger(__name__)

Preparing = Callable[[str, int, int], None]
"""Called with what is being prepared, how much of it is done, and of how much."""


@attrs.frozen(kw_only=True)
class Progress:
    """How far training is: reported after every step."""

    step: int
    steps: int
    metrics: Mapping[str, float]
    seconds: float


@attrs.frozen(kw_only=True)
class Listener:
    """Who is told how training goes: in the first process alone.

    Attributes:
        progress: Called after every step.
        preparing: Called before the first step with what is being prepared, how much of it is done, and of how much.
        say: Called with what a user should know, a sentence each.
        track: The trackers that metrics are sent to; see `perceptio.training.trackers`.
    """

    progress: Callable[[Progress], None] | None = None
    preparing: Preparing = lambda what, done, total: None
    say: Callable[[str], None] = logger.info
    track: tuple[str, ...] = ()
