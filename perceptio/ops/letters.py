"""The letter of a marked point, in an answer's words."""

import re


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
