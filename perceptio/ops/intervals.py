"""95% intervals for reported numbers, as (low, high)."""

import math
from collections.abc import Sequence

import numpy as np

from perceptio.errors import InputError

NORMAL_QUANTILE = 1.959964
"""The value that a standard normal variable exceeds with probability 2.5%."""

DRAWS = 4_000_000
"""Maximum number of counts of drawn items in memory; 32 MB."""


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion, which stays within [0, 1]; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share, spread = successes / n, NORMAL_QUANTILE**2 / n
    center = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread) * math.sqrt(share * (1 - share) + spread / 4) / (1 + spread)
    return max(0.0, center - half), min(1.0, center + half)


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of sum(numerators) / sum(denominators), with items drawn in pairs.

    A mean is the ratio with denominators of 1; cIoU is the ratio of intersections to unions. A resample whose
    denominators sum to 0 counts as 1, like an empty mask of an empty target. (0, 1) without items.
    """
    if not len(numerators):
        return 0.0, 1.0
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    # Draw how often each item occurs instead of which items: two matrix products do the rest. Use few resamples at a
    # time, because a hundred thousand items drawn two thousand times would take gigabytes.
    shares, random = np.full(len(above), 1 / len(above)), np.random.default_rng(seed)
    tops, bottoms = np.empty(resamples), np.empty(resamples)
    step = max(1, DRAWS // len(above))
    for first in range(0, resamples, step):
        some = slice(first, min(first + step, resamples))
        draws = random.multinomial(len(above), shares, size=some.stop - first)
        tops[some], bottoms[some] = draws @ above, draws @ below
    ratios = np.divide(tops, bottoms, out=np.ones(resamples), where=bottoms > 0)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def student_t(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's t interval of the mean behind a few values, such as those of several seeds.

    It assumes a normal distribution. For two values, the interval is 12.7 standard errors wide on either side.

    Args:
        values: Two or more values.

    Raises:
        InputError: There are fewer than two values.
    """
    n = len(values)
    if n < 2:
        raise InputError(f"An interval over seeds needs two of them or more, and there is {n}.")
    held = np.asarray(values, dtype=np.float64)
    mean = float(held.mean())
    half = t_quantile(n - 1) * float(held.std(ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def t_quantile(degrees: int) -> float:
    """Return the value that a variable with Student's t distribution exceeds with probability 2.5%, by bisection.

    Args:
        degrees: Degrees of freedom, 1 or more.
    """
    low, high = NORMAL_QUANTILE, 12.7062048  # The quantile for one degree of freedom is the largest.
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < 0.95 else (low, middle)
    return (low + high) / 2


def _within(t: float, degrees: int) -> float:
    """Return the probability of a value in [-t, t] (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = total = 0.0 if degrees == 1 else (math.cos(angle) if odd else 1.0)
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
