"""Counts and lists of names as they are written for people."""

import re
from collections.abc import Iterable


def number_of(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun, such as `1 sample` or `1,204 samples`.

    Args:
        count: The count.
        noun: Its noun in the singular.
        plural: Its plural. None: the noun and an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Return names sorted with their numbers by value: `layer2` before `layer10`."""

    def parts(name: str) -> list[tuple[bool, int, str]]:
        found = re.findall(r"[0-9]+|[^0-9]+", name)
        return [(False, int(part), part) if part.isdecimal() else (True, 0, part) for part in found]

    return sorted(names, key=parts)
