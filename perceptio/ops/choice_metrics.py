"""Accuracy of answers by letter."""

from collections.abc import Iterable
from typing import Any

from perceptio.ops.intervals import wilson


def score_choices(answers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the share of right answers.

    Args:
        answers: The chosen letter, or `""` if none could be parsed, which counts as wrong; and the right one.

    Returns:
        `accuracy`, NaN without answers; Wilson's 95% `interval`; `count`; and `unparsed`, the number of `""`.
    """
    right = count = unparsed = 0
    for chosen, true in answers:
        right, count, unparsed = right + (chosen == true), count + 1, unparsed + (chosen == "")
    return {
        "accuracy": right / count if count else float("nan"),
        "interval": list(wilson(right, count)),
        "count": count,
        "unparsed": unparsed,
    }
