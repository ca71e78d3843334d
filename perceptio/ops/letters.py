"""The letters of marked points: which letters name them, and which one an answer chooses."""

import re
from collections.abc import Sequence

from perceptio.errors import InputError
from perceptio.interfaces.records import LETTERS

LETTER_TOKENS = 8
"""Maximum number of tokens of an answer that is a letter."""

_ALONE = re.compile(r"\W*([A-Z])\W*")
_SAID = re.compile(r"\b[Aa]nswer(?: is|:)(?: [Pp]oint)?\W*([A-Z])\b")
_IN_PARENTHESES = re.compile(r"\(([A-Z])\)")
_CLOSEST = re.compile(
    r"\b([A-Z])\b\*{0,2}(?: \([A-Z]\)|,[^.,;]*,)? ?(?:is|appears|seems|looks|would be)\b"
    r"(?:(?!\bfar|\bnot\b|\bpoint\b|\bthan\b)[^.,;\n])*\b(?:close|near)(?:r|st|er|est)\b"
)
"""A point, perhaps with its location between commas, that is said to be closer; a negated clause does not match."""
_FIRST = re.compile(r"\W*([A-Z])[.):]\s")


def letters_for(count: int) -> str:
    """Return the first letters, one for each of `count` marked points.

    Raises:
        InputError: There are more points than letters.
    """
    if count > len(LETTERS):
        raise InputError(f"{count} points were marked and there are letters for {len(LETTERS)}; mark fewer.")
    return LETTERS[:count]


def parse_letter(text: str) -> str:
    """Return the letter that an answer chooses, or `""`.

    The rules, in this order: nothing but a letter; the last `the answer is (B)`; a letter in parentheses that is the
    only one in the answer, or otherwise in its last paragraph, as in BLINK's script; the first point that is said to
    be closest, as in `Point B, on the car, is closer than point A`.
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
    """Return the letter of the choice in an answer to a multiple-choice question, or `""`.

    Besides the rules of `parse_letter`, it accepts exactly the words of one choice, and `B. left` or `B) left`.

    Args:
        text: The answer.
        choices: The words of the choices, lettered A, B, … in order; other letters are not choices.
    """
    said = text.strip().rstrip(".").casefold()
    named = [number for number, words in enumerate(choices) if words.strip().casefold() == said]
    if len(named) == 1 and not _ALONE.fullmatch(text):
        return LETTERS[named[0]]
    letter = parse_letter(text)
    if not letter and (first := _FIRST.match(text)):
        letter = first[1]
    return letter if letter in tuple(LETTERS[: len(choices)]) else ""
