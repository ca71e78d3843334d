"""Two models on the same questions, by hand."""

import math

import pytest

from perceptio.errors import InputError
from perceptio.evaluation.answers import AskedQuestion
from perceptio.evaluation.comparison import SeedComparison, accuracy, compare


def pairs(letters, points=3, start=0):
    """Pairs by question: b where both are right, n where neither is, 1 or 2 where one of them alone is."""
    right = {"b": (True, True), "n": (False, False), "1": (True, False), "2": (False, True)}
    return {
        AskedQuestion(id=f"{number} with {points}", num_points=points): right[letter]
        for number, letter in enumerate(letters, start)
    }


def test_one_seed_by_hand():
    found = SeedComparison.of(pairs("bbn2212"))
    assert (found.count, found.first_right, found.second_right) == (7, 3, 5)
    assert (found.first_alone, found.second_alone, found.discordant) == (1, 3, 4)
    assert found.p == pytest.approx(2 * (1 + 4) / 2**4)


def test_numbers_of_points_count_alike():
    """Of three points one in two is won, of five none of six: a quarter, and not an eighth."""
    asked = pairs("2n", points=3) | pairs("nnnnnn", points=5)
    assert compare([asked]).difference.value == pytest.approx(1 / 8)
    found = compare([asked], by_points=True).difference
    assert found.value == pytest.approx(1 / 4) and found.interval == pytest.approx((0, 0.5))
    second = {question: right for question, (_, right) in asked.items()}
    assert accuracy(second) == 1 / 8 and accuracy(second, by_points=True) == 1 / 4


def test_questions_of_all_seeds_are_drawn_together():
    """What three seeds of the same questions agree on is no more certain than one; other questions add to it."""
    asked = pairs("2" * 30 + "1" * 10 + "b" * 60)
    half = 1.96 * math.sqrt((0.4 - 0.2**2) / 100)

    def width(seeds):
        found = compare(seeds)
        assert found.difference.value == pytest.approx(0.2) and len(found.seeds) == len(seeds)
        low, high = found.difference.interval
        return (high - low) / 2

    assert width([asked]) == pytest.approx(half, abs=0.01)
    assert width([asked] * 3) == pytest.approx(half, abs=0.01)
    others = [pairs("2" * 30 + "1" * 10 + "b" * 60, start=100 * seed) for seed in range(3)]
    assert width(others) == pytest.approx(half / math.sqrt(3), abs=0.01)


def test_the_mean_over_seeds():
    """Seeds that disagree on a question cancel in it."""
    found = compare([pairs("2b"), pairs("1b")])
    assert found.difference.value == 0 and found.difference.interval == (0, 0)
    assert [one.discordant for one in found.seeds] == [1, 1]


@pytest.mark.parametrize("seeds", [[], [{}], [pairs("b"), {}]])
def test_nothing_to_compare(seeds):
    with pytest.raises(InputError, match="no answers of the same questions"):
        compare(seeds)
    with pytest.raises(InputError, match="no answer that is right or wrong"):
        accuracy({})
