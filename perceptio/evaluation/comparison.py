"""Two models on the same questions, each trained with one seed or with several."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from perceptio.errors import InputError
from perceptio.evaluation.answers import AskedQuestion
from perceptio.ops.paired import Difference, mcnemar, paired_difference

Right = Mapping[AskedQuestion, bool]
"""Whether each question was answered right, as `right_by_question` has them."""
Pairs = Mapping[AskedQuestion, tuple[bool, bool]]
"""The same of two models, as `paired` has them."""


@attrs.frozen(kw_only=True)
class SeedComparison:
    """Two models of one seed on the same questions.

    Attributes:
        count: How many questions.
        first_right: How many of them the first answered right.
        second_right: How many the second.
        first_alone: How many the first alone.
        second_alone: How many the second alone.
    """

    count: int
    first_right: int
    second_right: int
    first_alone: int
    second_alone: int

    @classmethod
    def of(cls, pairs: Pairs) -> "SeedComparison":
        """What pairs of answers come to."""
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
        """How many questions one of them alone answered right."""
        return self.first_alone + self.second_alone

    @property
    def p(self) -> float:
        """The p-value of McNemar's exact test."""
        return mcnemar(self.first_alone, self.second_alone)


@attrs.frozen(kw_only=True)
class Comparison:
    """Two ways of training a model, on the same questions.

    Attributes:
        difference: How much higher the second's accuracy is, as the mean over seeds, with the interval of questions.
        seeds: What each seed found.
    """

    difference: Difference
    seeds: tuple[SeedComparison, ...]


def compare(seeds: Sequence[Pairs], *, by_points: bool = False) -> Comparison:
    """The paired difference of two ways of training.

    Where all seeds were asked the same questions, these are drawn once for all of them, each with its mean over
    seeds: a question that is hard is hard in each. Otherwise they are drawn within each seed.

    Args:
        seeds: Of each seed the answers of both models.
        by_points: Whether the accuracy is the mean over numbers of marked points, as HardBLINK has it, rather than
            the share of all questions.

    Raises:
        InputError: There is no seed, or none of its questions.
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
    """The share of right answers; or the mean over numbers of marked points of this share.

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
    """Of each question the mean over seeds of how right each model is."""
    pairs_SQ2 = np.array([[one[question] for question in seeds[0]] for one in seeds], dtype=np.float64)
    return dict(zip(seeds[0], map(tuple, pairs_SQ2.mean(0).tolist()), strict=True))
