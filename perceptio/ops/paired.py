"""Comparison of two models on the same questions: their difference, its significance, and the questions needed.

Whether an answer is right depends on the question as much as on the model. In a question-by-question comparison, two
models differ only on discordant questions, where one is right and the other wrong; all others cancel.

Shapes: S seeds, Q questions.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import attrs
import numpy as np

from perceptio.errors import InputError

ROUNDING = 1e-3
"""Tolerance for rounded shares that do not quite fit the others."""


@attrs.frozen(kw_only=True)
class Difference:
    """The difference between the means of two models.

    Attributes:
        value: The second's mean minus the first's.
        interval: Its 95% interval, (low, high).
    """

    value: float
    interval: tuple[float, float]


def paired_difference(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Return the difference of two models' accuracies on the same questions, as the mean over seeds.

    The interval is the percentile bootstrap (Efron, 1979) over questions, which are drawn within each seed. It
    describes the variation over other questions, not over other seeds. Questions of a seed without any discordant
    one have the same difference and add no width; use McNemar's test then.

    Args:
        first: The first model's scores [S, Q], 1 for a right answer and 0 for a wrong one; seeds may differ in Q. If
            all seeds are asked the same questions, pass one row with each question's mean over seeds.
        second: The second model's scores for the same questions in the same order.
        resamples: Number of bootstrap resamples.
        seed: Seed of the draws.

    Raises:
        InputError: The two differ in their number of seeds or questions, or there is none.
    """
    if not first or [len(row) for row in first] != [len(row) for row in second] or not all(map(len, first)):
        raise InputError(
            f"Models are compared on the same questions, and these have {[len(row) for row in first]} and "
            f"{[len(row) for row in second]}, seed by seed; give both the same, and at least one a seed."
        )
    random = np.random.default_rng(seed)
    value, drawn = 0.0, np.zeros(resamples)
    for one_Q, other_Q in zip(first, second, strict=True):
        differences_Q = np.asarray(other_Q, dtype=np.float64) - np.asarray(one_Q, dtype=np.float64)
        value += differences_Q.mean() / len(first)
        # Draw how often each value occurs instead of which questions: right or wrong answers give only three values.
        values, counts = np.unique(differences_Q, return_counts=True)
        q = len(differences_Q)
        drawn += random.multinomial(q, counts / q, size=resamples) @ values / q / len(first)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(value=float(value), interval=(float(low), float(high)))


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Return the two-sided p-value of McNemar's exact test, given the discordant questions.

    For two equally good models, each discordant question favors either with probability 1/2 (McNemar, Psychometrika
    12, 1947). The p-value is twice the binomial tail P(X <= smaller count), at most 1. The test needs one answer per
    question from each model: answers of several seeds to one question are not independent.

    Args:
        first_alone: Number of questions that only the first model answered right.
        second_alone: Number of questions that only the second model answered right.
    """
    n, smaller = first_alone + second_alone, min(first_alone, second_alone)
    # Logarithms, because 2**n exceeds floats from 1024 discordant questions on.
    tail = math.fsum(
        math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        for k in range(smaller + 1)
    )
    return min(1.0, 2 * tail)


def independent_discordance(difference: float, accuracy: float) -> float:
    """Return the share of discordant questions of two models that are right independently of each other.

    Two models that find the same questions hard have fewer.

    Args:
        difference: The second model's accuracy minus the first's.
        accuracy: The first model's, in [0, 1].
    """
    other = accuracy + difference
    return accuracy * (1 - other) + other * (1 - accuracy)


def questions_needed(
    difference: float,
    accuracy: float,
    *,
    paired: bool,
    discordant: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> int:
    """Return how many questions show a difference of two accuracies with a given probability, in a two-sided test.

    With p1, p2 the accuracies, d = p2 - p1, and z_a, z_b the normal quantiles of 1 - alpha / 2 and of power:

    - paired, for McNemar's test on n questions of which a share D is discordant:
      n = (z_a sqrt(D) + z_b sqrt(D - d^2))^2 / d^2 (Miettinen, Biometrics 24, 1968; Connor, Biometrics 43, 1987);
    - unpaired, with n separate questions for each model, p = (p1 + p2) / 2:
      n = (z_a sqrt(2 p (1 - p)) + z_b sqrt(p1 (1 - p1) + p2 (1 - p2)))^2 / d^2 (Fleiss, Statistical Methods for Rates
      and Proportions, without continuity correction).

    Both are normal approximations; the exact test needs a few more questions if few are discordant.

    Args:
        difference: d, in (-1, 1) and not 0; 0.05 is five points.
        accuracy: p1, in [0, 1].
        paired: Whether both models are asked the same questions and compared question by question.
        discordant: D, for paired questions; None: that of models which are right independently of each other.
        power: The probability of detecting the difference.
        alpha: The probability of detecting a difference if there is none.

    Raises:
        InputError: A number is outside its range by more than `ROUNDING`, or no two such models have that share of
            discordant questions.
    """
    other = accuracy + difference
    if difference == 0 or not (0 <= accuracy <= 1 and -ROUNDING <= other <= 1 + ROUNDING):
        raise InputError(
            f"Accuracies of {_percent(accuracy)} and {_percent(other)} are no two different numbers from 0% to 100%; "
            "choose another accuracy or difference."
        )
    if not (0 < alpha < power < 1):
        raise InputError(
            f"A power of {power:g} at alpha {alpha:g} makes no sense; both are probabilities, and the power is the "
            "larger."
        )
    other = min(max(other, 0.0), 1.0)
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
    if paired:
        share = independent_discordance(difference, accuracy) if discordant is None else discordant
        least, most = abs(difference), min(accuracy + other, 2 - accuracy - other)
        if not least - ROUNDING <= share <= most + ROUNDING:
            raise InputError(
                f"With accuracies of {_percent(accuracy)} and {_percent(other)}, {_percent(least)} to "
                f"{_percent(most)} of the questions are discordant, and {_percent(share)} was given."
            )
        under_none, under_some = share, max(share - difference**2, 0.0)
    else:
        mean = (accuracy + other) / 2
        under_none = 2 * mean * (1 - mean)
        under_some = accuracy * (1 - accuracy) + other * (1 - other)
    spread = z_alpha * math.sqrt(under_none) + z_power * math.sqrt(under_some)
    return math.ceil(spread**2 / difference**2)


def _percent(share: float) -> str:
    return f"{100 * share:g}%"
