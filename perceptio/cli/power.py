"""`perceptio power`: how many questions it takes to show a difference between two models."""

from typing import Annotated

import typer

from perceptio.cli.console import console, say

POWERS = (0.8, 0.9)
SHARES = (0.05, 0.1, 0.2, 0.3)
"""Shares of discordant questions that are shown besides a given one, if two such models can have them."""


def run(
    difference: Annotated[
        float,
        typer.Option(help="Difference in accuracy to detect, in percentage points: 5 turns 75% into 80%."),
    ],
    accuracy: Annotated[float, typer.Option(help="Accuracy of the first model, in percent.")],
    discordant: Annotated[
        float | None,
        typer.Option(help="Percentage of questions that only one model answers right, as `compare` reports."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="p-value below which a difference counts as shown.")] = 0.05,
) -> None:
    """Compute how many questions it takes to show a difference between two models, on the same or separate ones."""
    from functools import partial

    from rich.table import Table

    from perceptio.ops.paired import independent_discordance, questions_needed

    d, first = difference / 100, _share("--accuracy", accuracy)
    needed = partial(questions_needed, d, first, alpha=alpha)
    rows = [("each its own, for each model", [needed(paired=False, power=power) for power in POWERS])]
    independent = independent_discordance(d, first)
    given = [] if discordant is None else [_share("--discordant", discordant)]
    usual = [share for share in SHARES if abs(d) <= share < independent and share not in given]
    for share in sorted([*given, *usual, independent], reverse=True):
        counts = [needed(paired=True, discordant=share, power=power) for power in POWERS]
        how = ", as of independent models" if share == independent else ""
        rows.append((f"the same, {100 * share:.3g}% discordant{how}", counts))
    table = Table("questions", *(f"power {power:.0%}" for power in POWERS), box=None)
    for name, counts in rows:
        table.add_row(name, *(f"{count:,}" for count in counts))
    shown = console()
    shown.print(table)
    say(
        shown,
        f"So many questions show accuracies of {accuracy:g}% and {accuracy + difference:g}% to differ, with p below "
        f"{alpha:g}, in that share of all tries. Discordant is a question that one of the two models alone answers "
        "right.",
    )


def _share(option: str, percent: float) -> float:
    """Convert a percentage, and refuse what looks like a share in [0, 1]."""
    from perceptio.errors import InputError

    if not 0 <= percent <= 100:
        raise InputError(f"{option} {percent:g} is no percentage: give a number from 0 to 100.")
    if 0 < percent < 1:
        raise InputError(
            f"{option} {percent:g} is less than one percent: give percent, {option} {100 * percent:g} for a share of "
            f"{percent:g}."
        )
    return percent / 100
