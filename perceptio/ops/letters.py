"""The letters of marked points: those that name them, and the one that an answer chooses."""

import re
from collections.abc import Sequence

from perceptio.errors import InputError
from perceptio.interfaces.records import LETTERS

LETTER_TOKENS = 8
"""Most tokens of an answer that is a letter."""

_ALONE = re.compile(r"\W*([A-Z])\W*")
_SAID = re.compile(r"\b[Aa]nswer(?: is|:)(?: [Pp]oint)?\W*([A-Z])\b")
_IN_PARENTHESES = re.compile(r"\(([A-Z])\)")
_CLOSEST = re.compile(
    r"\b([A-Z])\b\*{0,2}(?: \([A-Z]\)|,[^.,;]*,)? ?(?:is|appears|seems|looks|would be)\b"
    r"(?:(?!\bfar|\bnot\b|\bpoint\b|\bthan\b)[^.,;\n])*\b(?:close|near)(?:r|st|er|est)\b"
)
"""A point, perhaps with where it lies between commas, and that it is closer; a clause that denies it says nothing."""
_FIRST = re.compile(r"\W*([A-Z])[.):]\s")


def letters_for(count: int) -> str:
    """The first letters, which name so many marked points.

    Raises:
        InputError: There are not as many.
    """
    if count > len(LETTERS):
        raise InputError(f"{count} points were marked and there are letters for {len(LETTERS)}; mark fewer.")
    return LETTERS[:count]


def parse_letter(text: str) -> str:
    """The letter an answer chooses, or `""`.

    In this order: nothing but a letter; `the answer is (B)`, the last of them; a letter in parentheses, where it is
    the only one of the answer, or else of its last paragraph, as BLINK's script has it; the first point that is said
    to be closest, as in `Point B, on the car, is closer than point A`.
    """
    if alone := _ALONE.fullmatch(text):
        return alone[1]
    if said := _SAID.findall(text):
        return said[-1]
    for part in (text, text.rstrip().rpartition("\n\n")[2]):
        if len(letters := set(_IN_PARENTHESES.findall(part))) == 1:
            return letters.pop()
    closest = _CLOSEST.search(text)
    return closest[1] if closest else ""


def parse_choice(text: str, choices: Sequence[str]) -> str:
    """The letter of the choice that an answer to a multiple-choice question takes, or `""`.

    Besides what `parse_letter` reads: nothing but the words of one choice, and `B. left` or `B) left`.

    Args:
        text: The answer.
        choices: The words of the choices, lettered A, B, … in order; another letter is no choice.
    """
    said = text.strip().rstrip(".").casefold()
    named = [number for number, words in enumerate(choices) if words.strip().casefold() == said]
    if len(named) == 1 and not _ALONE.fullmatch(text):
        return LETTERS[named[0]]
    letter = parse_letter(text)
    if not letter and (first := _FIRST.match(text)):
        letter = first[1]
    return letter if letter in tuple(LETTERS[: len(choices)]) else ""
