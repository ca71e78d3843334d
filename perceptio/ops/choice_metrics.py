"""Questions that are answered by a letter: how many answers are right."""

from collections.abc import Iterable
from typing import Any

from perceptio.ops.intervals import wilson


def score_choices(answers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The share of right answers.

    Args:
        answers: The letter that was chosen, `""` where none could be read, which is wrong; and the right one.

    Returns:
        `accuracy`, NaN without answers; Wilson's 95% `interval`; `count`; and `unparsed`, how many chose none.
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
