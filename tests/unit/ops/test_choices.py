"""Which choice an answer takes, and how many are right."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.ops.choice_metrics import score_choices
from perceptio.ops.letters import parse_choice, parse_letter

CHOICES = ("left", "right", "A is closer")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("B", "B"),
        ("B. right", "B"),
        ("B) right", "B"),
        ("Answer: (B)", "B"),
        ("The answer is B.", "B"),
        ("Right.", "B"),
        ("A is closer", "C"),
        ("(D)", ""),
        ("left or right", ""),
        ("A table", ""),
        ("", ""),
    ],
)
def test_a_choice_is_read_from_an_answer(text, letter):
    assert parse_choice(text, CHOICES) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Point B is closest to the camera.", "B"),
        ("**B** is closer to the camera than **A**.", "B"),
        ("Point A, which is on the car, is closer to the camera than point B.", "A"),
        ("Point A is closer. Point B is on the stage, closer to the people.", "A"),
        ("point A appears further away than point B. So point B is likely closer to us.", "B"),
        ("Point A (A) is at 2 m.\n\nPoint B (B) is at 1 m. So, the correct answer is (B) B is closer.", "B"),
        ("Point A (A) is at 2 m and B (B) at 1 m.\n\nTherefore: (B)", "B"),
        ("Neither (A) nor (B) can be told.", ""),
        ("A chair is closer than a table.", ""),
        ("Point C is not the closest.", ""),
    ],
)
def test_a_point_is_read_from_sentences(text, letter):
    assert parse_letter(text) == letter


def test_words_that_two_choices_share_are_no_choice():
    assert parse_choice("two", ("two", "Two")) == ""


def blink_rule(answer, count):
    """BLINK's own reading of an answer, a letter in parentheses; None where it asks a language model."""
    letters = [f"({letter})" for letter in "ABCDE"]
    if answer in "ABCDE" and len(answer) == 1:
        return f"({answer})"
    if answer in letters:
        return answer
    for words in (answer.split("\n\n")[-1].split(), answer.split()):
        named = set(letters[:count]) & set(words)
        if len(named) == 1:
            return named.pop()
    return None


WORDS = st.sampled_from(["I", "think", "that", "it", "is", "the", "point", "on", "top", "."])


@given(st.lists(WORDS, max_size=5), st.sampled_from("ABCD"), st.lists(WORDS, max_size=5), st.booleans())
def test_where_blink_s_rule_decides_ours_agrees(before, letter, after, alone):
    text = letter if alone else " ".join([*before, f"({letter})", *after])
    assert f"({parse_choice(text, ('w', 'x', 'y', 'z'))})" == blink_rule(text, 4)


def test_accuracy_by_hand():
    figures = score_choices([("A", "A"), ("B", "A"), ("", "A"), ("B", "B")])
    assert figures["accuracy"] == 0.5 and (figures["count"], figures["unparsed"]) == (4, 1)
    assert math.isnan(score_choices([])["accuracy"])
