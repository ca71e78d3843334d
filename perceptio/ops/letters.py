"""The letters of marked points: those that name them, and the one that an answer chooses."""

import re

from perceptio.errors import InputError
from perceptio.interfaces.records import LETTERS


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
