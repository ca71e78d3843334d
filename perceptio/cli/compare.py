"""`perceptio compare`: two evaluations of the same questions, question by question."""

from pathlib import Path
from typing import Annotated

import typer

from perceptio.cli.console import command, console, say
from perceptio.cli.files import path


def run(
    first: Annotated[
        Path, typer.Argument(parser=path, metavar="DIR_A", help="Where `perceptio eval` wrote answers.jsonl.")
    ],
    second: Annotated[
        Path, typer.Argument(parser=path, metavar="DIR_B", help="The same of another model, or another run.")
    ],
    figure: Annotated[
        str | None,
        typer.Option(
            help="What is compared, such as relative_depth.",
            show_default="all that is right or wrong in both",
        ),
    ] = None,
) -> None:
    """Compare two evaluated models on the same questions: accuracies, their difference, and whether it is chance."""
    from perceptio.errors import InputError
    from perceptio.evaluation.answers import paired, read_answers, right_or_wrong

    answers = [read_answers(folder) for folder in (first, second)]
    known = [right_or_wrong(one) for one in answers]
    shared = [name for name in known[0] if name in known[1]]
    if not shared:
        raise InputError(
            f"{first} and {second} have no figure in common whose answers are right or wrong: the one has "
            f"{', '.join(known[0]) or 'none'}, the other {', '.join(known[1]) or 'none'}."
        )
    if figure is not None and figure not in shared:
        raise InputError(
            f"{figure!r} is not a figure whose answers are right or wrong in both evaluations; these are "
            f"{', '.join(shared)}."
        )
    pairs = {
        name: paired(answers[0], answers[1], name) for name in ([figure] if figure is not None else shared)
    }
    for name, (right_a, right_b) in pairs.items():
        _show(name, (first, second), right_a, right_b)


def _show(name: str, folders: tuple[Path, Path], right_a: list[bool], right_b: list[bool]) -> None:
    from rich.table import Table

    from perceptio.ops.intervals import wilson
    from perceptio.ops.paired import discordant, mcnemar, paired_difference

    shown, count = console(), len(right_a)
    table = Table(
        "", "accuracy", "95% interval", box=None, title=f"{name}, {count} questions", title_justify="left"
    )
    for letter, folder, right in zip("AB", folders, (right_a, right_b), strict=True):
        low, high = wilson(sum(right), count)
        table.add_row(f"{letter}: {folder}", f"{sum(right) / count:.4f}", f"{low:.4f} to {high:.4f}")
    difference = paired_difference([right_a], [right_b])
    low, high = difference.interval
    a_alone, b_alone = discordant(right_a, right_b)
    differ = a_alone + b_alone
    table.add_row(
        "B - A", f"{difference.value:+.4f}", f"{low:+.4f} to {high:+.4f}" if differ else "not known"
    )
    shown.print(table)
    if not differ:
        say(shown, "No question is discordant: both are right, or both wrong, in each.")
        return
    p = mcnemar(a_alone, b_alone)
    say(
        shown,
        f"Discordant: {differ} questions ({differ / count:.1%}); A alone is right in {a_alone}, B alone in "
        f"{b_alone}. McNemar's exact test: p = {p:.2g}.",
    )
    if p > 0.05 and a_alone != b_alone:
        points, accuracy, share = 100 * difference.value, sum(right_a) / count, differ / count
        given = ("--difference", round(points, 2), "--accuracy", round(accuracy, 4))
        how = command("power", *given, "--discordant", round(share, 4))
        say(shown, f"How many questions would show such a difference: {how}")
