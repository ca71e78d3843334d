"""Comparison of two models on the same questions, trained with one or several seeds each."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from perceptio.errors import InputError
from perceptio.evaluation.answers import AskedQuestion
from perceptio.ops.paired import Difference, mcnemar, paired_difference

Right = Mapping[AskedQuestion, bool]
"""Whether each question was answered right, from `right_by_question`."""
Pairs = Mapping[AskedQuestion, tuple[bool, bool]]
"""The same for two models, from `paired`."""


@attrs.frozen(kw_only=True)
class SeedComparison:
    """Two models of one seed on the same questions.

    Attributes:
        count: Number of questions.
        first_right: Number of questions that the first model answered right.
        second_right: Number of questions that the second model answered right.
        first_alone: Number of questions that only the first model answered right.
        second_alone: Number of questions that only the second model answered right.
    """

    count: int
    first_right: int
    second_right: int
    first_alone: int
    second_alone: int

    @classmethod
    def of(cls, pairs: Pairs) -> "SeedComparison":
        """Count pairs of answers."""
        times = Counter(pairs.values())
        both, first_alone, second_alone = times[True, True], times[True, False], times[False, True]
        return cls(
            count=len(pairs),
            first_right=both + first_alone,
            second_right=both + second_alone,
            first_alone=first_alone,
            second_alone=second_alone,
        )

    @property
    def discordant(self) -> int:
        """Number of questions that only one of the models answered right."""
        return self.first_alone + self.second_alone

    @property
    def p(self) -> float:
        """The p-value of McNemar's exact test."""
        return mcnemar(self.first_alone, self.second_alone)


@attrs.frozen(kw_only=True)
class Comparison:
    """Two ways of training a model, compared on the same questions.

    Attributes:
        difference: Accuracy of the second minus that of the first, as the mean over seeds, with an interval for the
            choice of questions.
        seeds: The comparison of each seed.
    """

    difference: Difference
    seeds: tuple[SeedComparison, ...]


def compare(seeds: Sequence[Pairs], *, by_points: bool = False) -> Comparison:
    """Return the paired difference of two ways of training.

    If all seeds were asked the same questions, the bootstrap resamples questions jointly, each with its mean over
    seeds, because a question that is hard for one seed is hard for all. Otherwise it resamples within each seed.

    Args:
        seeds: The answers of both models, for each seed.
        by_points: Whether the accuracy is the mean over numbers of marked points, as in HardBLINK, instead of the
            share of all questions.

    Raises:
        InputError: There is no seed, or a seed has no question.
    """
    if not seeds or not all(seeds):
        raise InputError("There are no answers of the same questions to compare.")
    same_questions = all(one.keys() == seeds[0].keys() for one in seeds)
    groups = [_means(seeds)] if same_questions else [_means([one]) for one in seeds]
    first, second = [], []
    for group in groups:
        by_count: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for question, means in group.items():
            by_count[question.num_points if by_points else 0].append(means)
        for means_Q2 in by_count.values():
            one, other = zip(*means_Q2, strict=True)
            first.append(one)
            second.append(other)
    return Comparison(
        difference=paired_difference(first, second), seeds=tuple(SeedComparison.of(one) for one in seeds)
    )


def accuracy(right: Right, *, by_points: bool = False) -> float:
    """Return the share of right answers, or the mean of this share over numbers of marked points.

    Raises:
        InputError: There is no question.
    """
    if not right:
        raise InputError("There is no answer that is right or wrong.")
    by_count: dict[int, list[bool]] = defaultdict(list)
    for question, is_right in right.items():
        by_count[question.num_points if by_points else 0].append(is_right)
    return float(np.mean([np.mean(one) for one in by_count.values()]))


def _means(seeds: Sequence[Pairs]) -> dict[AskedQuestion, tuple[float, float]]:
    """Return the share of seeds in which each model is right, for each question."""
    pairs_SQ2 = np.array([[one[question] for question in seeds[0]] for one in seeds], dtype=np.float64)
    return dict(zip(seeds[0], map(tuple, pairs_SQ2.mean(0).tolist()), strict=True))
