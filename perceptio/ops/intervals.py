"""95% intervals for the numbers a report shows, as (low, high)."""

import math
from collections.abc import Sequence

import numpy as np

NORMAL_QUANTILE = 1.959964
"""What a standard normal variable exceeds with probability 2.5%."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion; it stays in [0, 1] and is honest near the ends. (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, spread = successes / n, NORMAL_QUANTILE**2 / n
    center = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread) * math.sqrt(share * (1 - share) + spread / 4) / (1 + spread)
    return max(0.0, center - half), min(1.0, center + half)


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of sum(numerators) / sum(denominators), items drawn in pairs.

    A mean is the ratio with denominators of 1; cIoU is the ratio of intersections to unions. A resample whose
    denominators sum to 0 counts as 1, as an empty mask of an empty target does. (0, 1) without items.
    """
    if not len(numerators):
        return 0.0, 1.0
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    # How often each item is drawn, rather than which are drawn: two matrix products do the rest.
    shares = np.full(len(above), 1 / len(above))
    draws = np.random.default_rng(seed).multinomial(len(above), shares, size=resamples)
    tops, bottoms = draws @ above, draws @ below
    ratios = np.divide(tops, bottoms, out=np.ones(resamples), where=bottoms > 0)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
