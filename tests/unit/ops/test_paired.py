"""Comparing two models on the same questions, by hand and by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import InputError
from perceptio.ops.paired import (
    independent_discordance,
    mcnemar,
    paired_difference,
    questions_needed,
)

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


def test_the_difference_is_the_mean_over_seeds_of_the_difference_of_accuracies():
    first = [[1, 1, 0, 0], [1, 0]]
    second = [[1, 0, 0, 0], [1, 1]]
    found = paired_difference(first, second)
    assert found.value == pytest.approx((-0.25 + 0.5) / 2)
    assert found.interval[0] <= found.value <= found.interval[1]


def test_the_interval_is_that_of_a_mean_of_differences():
    """Of 1000 questions 100 are won and 50 lost: the mean is 0.05, and the variance of one 0.15 - 0.05**2."""
    first = np.repeat([0, 1, 1], [100, 50, 850])
    second = np.repeat([1, 0, 1], [100, 50, 850])
    half = 1.96 * math.sqrt(0.15 - 0.05**2) / math.sqrt(1000)
    assert paired_difference([first], [second]).interval == pytest.approx(
        (0.05 - half, 0.05 + half), abs=2e-3
    )
    twice = paired_difference([first, first], [second, second])
    assert np.diff(twice.interval) == pytest.approx(2 * half / math.sqrt(2), abs=2e-3)


@given(ANSWERS)
def test_swapping_two_models_turns_everything_around(pairs):
    first, second = zip(*pairs, strict=True)
    there, back = paired_difference([first], [second]), paired_difference([second], [first])
    assert there.value == pytest.approx(-back.value)
    assert there.interval[0] <= there.value + 1e-9 and there.value - 1e-9 <= there.interval[1]
    a, b = pairs.count((True, False)), pairs.count((False, True))
    assert there.value == pytest.approx((b - a) / len(pairs)) and mcnemar(a, b) == mcnemar(b, a)


def test_models_that_agree_everywhere_differ_by_nothing():
    assert paired_difference([[1, 0]], [[1, 0]]).interval == (0.0, 0.0)
    assert mcnemar(0, 0) == 1.0


@pytest.mark.parametrize("first", [[], [[]], [[1, 0]], [[1], [0]]])
def test_other_questions_are_refused(first):
    with pytest.raises(
        InputError, match=r"compared on the same questions, and these have .* seed by seed; give both"
    ):
        paired_difference(first, [[]] if first == [[]] else [[1]] if first else [])


def test_mcnemar_by_hand():
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(3, 3) == 1.0


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_tail(first, second):
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1))
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail / 2**n), rel=1e-9)


def test_mcnemar_of_many_questions_is_still_a_number():
    """50,000 against 50,633: two standard deviations of 100,633 throws, p about 0.046."""
    assert mcnemar(50_000, 50_633) == pytest.approx(0.046, abs=1e-3)


def test_questions_needed_by_hand():
    assert questions_needed(0.1, 0.6, paired=False) == 356  # (1.96 sqrt(0.455) + 0.8416 sqrt(0.45))**2 / 0.01
    assert questions_needed(0.1, 0.6, paired=True, discordant=0.2) == 155
    assert independent_discordance(0.1, 0.6) == pytest.approx(0.6 * 0.3 + 0.7 * 0.4)
    assert questions_needed(0.1, 0.6, paired=True) == questions_needed(0.1, 0.6, paired=True, discordant=0.46)


def test_so_many_questions_do_show_the_difference():
    """The share of simulated tries in which McNemar's exact test finds it, which is slightly conservative."""
    n = questions_needed(0.1, 0.6, paired=True, discordant=0.3)
    tries = np.random.default_rng(0).multinomial(n, [0.1, 0.2, 0.7], size=1000)
    shown = np.mean([mcnemar(int(a), int(b)) < 0.05 for a, b, _ in tries])
    assert 0.73 < shown < 0.83


@given(*[st.integers(0, 50)] * 4)
def test_shares_that_were_measured_and_rounded_are_accepted(both, neither, first_alone, second_alone):
    n = both + neither + first_alone + second_alone
    if first_alone != second_alone:
        difference, accuracy = round((second_alone - first_alone) / n, 4), round((both + first_alone) / n, 4)
        share = round((first_alone + second_alone) / n, 4)
        assert questions_needed(difference, accuracy, paired=True, discordant=share) > 0


@given(st.floats(0.02, 0.2), st.floats(0.1, 0.79))
def test_more_is_needed_of_small_differences_of_high_power_and_of_much_discordance(difference, accuracy):
    most = independent_discordance(difference, accuracy)
    shares = np.linspace(difference, most, 4)
    counts = [questions_needed(difference, accuracy, paired=True, discordant=share) for share in shares]
    assert all(one <= other for one, other in itertools.pairwise(counts))
    for paired in (True, False):
        needed = questions_needed(difference, accuracy, paired=paired)
        assert questions_needed(difference / 2, accuracy, paired=paired) > needed
        assert questions_needed(difference, accuracy, paired=paired, power=0.9) > needed
        mirrored = questions_needed(-difference, 1 - accuracy, paired=paired)
        assert abs(mirrored - needed) <= 1  # Wrong answers counted instead of right ones.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"difference": 0.0}, "75% and 75% are no two different numbers from 0% to 100%"),
        ({"difference": 0.3}, "75% and 105% are no two different numbers from 0% to 100%; choose another"),
        ({"power": 1.0}, r"A power of 1 at alpha 0\.05 makes no sense; both are probabilities"),
        ({"alpha": 0.0}, r"A power of 0\.8 at alpha 0 makes no sense"),
        ({"discordant": 0.01}, "75% and 80%, 5% to 45% of the questions are discordant, and 1% was given"),
        ({"discordant": 0.5}, "75% and 80%, 5% to 45% of the questions are discordant, and 50% was given"),
    ],
)
def test_impossible_numbers_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        questions_needed(**{"difference": 0.05, "accuracy": 0.75, "paired": True} | given)
