"""Rules for the JSON values of a data folder, each with its message."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeGuard

from perceptio.errors import quoted


def key_problems(found: Mapping[str, Any], required: set[str], optional: set[str]) -> Iterator[str]:
    """Yield a problem for each required key that is missing, and for each unknown key."""
    known = required | optional
    for key in sorted(required - found.keys()):
        yield f'"{key}" is missing.'
    for key in found:
        if key in known:
            continue
        near = get_close_matches(key[:80], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}."
        yield f"{quoted(key)} is not a known key; {hint}"


def is_number(value: Any) -> bool:
    """Return whether a value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any) -> TypeGuard[int]:
    """Return whether a value is an integer; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)
