"""The letters of marked points: those that name them, and the one that an answer chooses."""

import re
from collections.abc import Sequence

from perceptio.errors import InputError
from perceptio.interfaces.records import LETTERS

LETTER_TOKENS = 8
"""Most tokens of an answer that is a letter."""


def letters_for(count: int) -> str:
    """The first letters, which name so many marked points.

    Raises:
        InputError: There are not as many.
    """
    if count > len(LETTERS):
        raise InputError(f"{count} points were marked and there are letters for {len(LETTERS)}; mark fewer.")
    return LETTERS[:count]


def parse_letter(text: str) -> str:
    """The letter an answer chooses, or `""`: `(B)`, `point B is closer`, `answer is B`, or a lone letter."""
    for pattern in (
        r"\(([A-Z])\)",
        r"\bpoint ([A-Z])\b[^.]*\bclose(?:r|st)\b",
        r"\banswer is \W*([A-Z])\b",
        r"^\W*([A-Z])\W*$",
    ):
        found = re.search(pattern, text)
        if found:
            return found.group(1)
    return ""


def parse_choice(text: str, choices: Sequence[str]) -> str:
    """The letter of the choice that an answer to a multiple-choice question takes, or `""`.

    Besides what `parse_letter` reads: `B. left`, `B) left`, `Answer: B`, and nothing but the words of one choice.

    Args:
        text: The answer.
        choices: The words of the choices, lettered A, B, … in order; another letter is no choice.
    """
    letter = parse_letter(text)
    if not letter:
        found = re.search(r"^\W*([A-Z])[.):]\s|\b[Aa]nswer:\W*([A-Z])\b", text)
        letter = next(filter(None, found.groups()), "") if found else ""
    if not letter:
        said = text.strip().rstrip(".").casefold()
        named = [number for number, words in enumerate(choices) if words.strip().casefold() == said]
        letter = LETTERS[named[0]] if len(named) == 1 else ""
    return letter if letter in tuple(LETTERS[: len(choices)]) else ""
