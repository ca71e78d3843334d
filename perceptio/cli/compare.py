"""`perceptio compare`: compare evaluations of the same questions, question by question."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perceptio.cli.console import command, console, say
from perceptio.cli.files import path
from perceptio.ops.wording import number_of

if TYPE_CHECKING:
    from rich.console import Console

    from perceptio.evaluation.comparison import Comparison, Pairs
    from perceptio.experiments import tables


def run(
    folders: Annotated[
        list[Path],
        typer.Argument(
            parser=path,
            metavar="DIR...",
            help="Two folders with answers.jsonl from `perceptio eval`; or one experiment's folder, to compare its "
            "variants with its baseline.",
        ),
    ],
    other: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            parser=path,
            metavar="DIR",
            help="For several seeds: a folder of the second model; repeat it, one for each DIR in the same order.",
        ),
    ] = None,
    figure: Annotated[
        str | None,
        typer.Option(
            help="The figure to compare, such as relative_depth.",
            show_default="all figures with right or wrong answers in both",
        ),
    ] = None,
) -> None:
    """Compare models on the same questions: accuracies, their difference, and whether it could be chance.

    Give two folders to compare two models. Give one folder of an experiment to compare all its variants. For several
    seeds, write `compare A0 A1 --with B0 --with B1`.
    """
    from perceptio.errors import InputError
    from perceptio.evaluation.comparison import compare

    if len(folders) == 1 and not other:
        _show_experiment(console(), folders[0], figure)
        return
    first, second = (folders, other) if other else (folders[:1], folders[1:])
    if len(first) != len(second):
        raise InputError(
            f"There are {len(first)} evaluations of the one model and {len(second)} of the other: name an "
            "experiment, or two folders, or of several seeds as many with --with as before it."
        )
    for name, seeds in _pairs(first, second, figure).items():
        _show(console(), name, list(zip(first, second, strict=True)), compare(seeds))


def _pairs(first: Sequence[Path], second: Sequence[Path], figure: str | None) -> "dict[str, list[Pairs]]":
    """Return the pairs of answers of each seed, by figure.

    Raises:
        InputError: The evaluations have no figure in common, or not the requested one.
        DataError: Answers are missing, or belong to other questions.
    """
    from perceptio.errors import InputError
    from perceptio.evaluation.answers import paired, read_answers, right_by_question, right_or_wrong

    answers = {folder: read_answers(folder) for folder in (*first, *second)}
    known = {folder: right_or_wrong(one) for folder, one in answers.items()}
    shared = [name for name in known[first[0]] if all(name in one for one in known.values())]
    if not shared:
        a, b = (next(iter(side)) for side in (first, second))
        raise InputError(
            f"{a} and {b} have no figure in common whose answers are right or wrong: the one has "
            f"{', '.join(known[a]) or 'none'}, the other {', '.join(known[b]) or 'none'}."
        )
    if figure is not None and figure not in shared:
        raise InputError(
            f"{figure!r} is not a figure whose answers are right or wrong in both evaluations; these are "
            f"{', '.join(shared)}."
        )
    return {
        name: [
            paired(right_by_question(answers[one], name), right_by_question(answers[two], name), name)
            for one, two in zip(first, second, strict=True)
        ]
        for name in ([figure] if figure is not None else shared)
    }


def _show(
    shown: "Console", name: str, folders: Sequence[tuple[Path, Path]], comparison: "Comparison"
) -> None:
    from rich.table import Table

    from perceptio.ops.intervals import wilson

    counts = dict.fromkeys(seed.count for seed in comparison.seeds)
    seeds = f", {number_of(len(folders), 'seed')}" if len(folders) > 1 else ""
    title = f"{name}, {' and '.join(number_of(count, 'question') for count in counts)}{seeds}"
    table = Table("", "accuracy", "95% interval", box=None, title=title, title_justify="left")
    for pair, seed in zip(folders, comparison.seeds, strict=True):
        for letter, folder, right in zip("AB", pair, (seed.first_right, seed.second_right), strict=True):
            low, high = wilson(right, seed.count)
            table.add_row(f"{letter}: {folder}", f"{right / seed.count:.4f}", f"{low:.4f} to {high:.4f}")
    low, high = comparison.difference.interval
    differ = any(seed.discordant for seed in comparison.seeds)
    interval = f"{low:+.4f} to {high:+.4f}" if differ else "not known"
    table.add_row("B - A", f"{comparison.difference.value:+.4f}", interval)
    shown.print(table)
    if not differ:
        say(shown, "No question is discordant: both are right, or both wrong, in each.")
        return
    for seed in comparison.seeds:
        say(
            shown,
            f"Discordant: {number_of(seed.discordant, 'question')} ({seed.discordant / seed.count:.1%}); A alone is "
            f"right in {seed.first_alone}, B alone in {seed.second_alone}. McNemar's exact test: p = {seed.p:.2g}.",
        )
    if len(comparison.seeds) > 1:
        say(shown, "The interval of B - A is of other questions; other seeds may differ by more.")
        return
    [seed] = comparison.seeds
    if seed.p > 0.05 and seed.first_alone != seed.second_alone:
        points, accuracy = 100 * comparison.difference.value, seed.first_right / seed.count
        given = ("--difference", round(points, 2), "--accuracy", round(100 * accuracy, 2))
        how = command("power", *given, "--discordant", round(100 * seed.discordant / seed.count, 2))
        say(shown, f"How many questions would show such a difference: {how}")


def _show_experiment(shown: "Console", folder: Path, figure: str | None) -> None:
    """Show the table of an experiment, and McNemar's test for each seed."""
    from rich.table import Table

    from perceptio.experiments.results import read
    from perceptio.experiments.summary import summarize
    from perceptio.experiments.tables import p_text, table_of

    summary = summarize(read(folder), None if figure is None else [figure])
    table = table_of(summary)
    say(shown, f"{table.title}, compared with {table.baseline}")
    _show_by_figure(shown, table)
    say(shown, " ".join(table.legend))
    seeds = Table(box=None, title="Seed by seed", title_justify="left")
    alone = (f"{table.baseline} alone right", "the variant alone")
    for heading in ("variant", "figure", "seed", "discordant", *alone, "McNemar's p"):
        # A heading that is cut off may hide what distinguishes two figures.
        seeds.add_column(heading, overflow="fold")
    for variant in summary.variants:
        for name, contrast in variant.differences.items():
            for seed, one in contrast.pairs.items():
                counts = (one.discordant, one.first_alone, one.second_alone)
                p = p_text(one.p).removeprefix("= ")
                seeds.add_row(variant.name, name, str(seed), *map(str, counts), p)
    if seeds.row_count:
        shown.print()
        shown.print(seeds)
    for sentence in (*(one.sentence for one in table.unfinished), *table.notes):
        say(shown, sentence, style="yellow")


def _show_by_figure(shown: "Console", table: "tables.Table") -> None:
    """Show one table for each figure: side by side they would not fit any terminal."""
    from rich.table import Table

    columns = list(zip(table.columns, zip(*table.texts(), strict=True), strict=True))
    names = [one for one in columns if one[0].kind == "text"]
    groups: dict[str, list[tuple[tables.Column, tuple[str, ...]]]] = {}
    for column, texts in columns:
        if column.kind != "text":
            group = column.name if column.kind in ("estimate", "difference") else ""
            groups.setdefault(group, []).append((column, texts))
    for group, own in groups.items():
        printed = Table(box=None, title=group or None, title_justify="left")
        for column, _ in (*names, *own):
            heading = column.heading.replace(column.name, column.name.rpartition(".")[2])
            printed.add_column(heading, justify="left" if column.kind == "text" else "right", overflow="fold")
        for row in zip(*(texts for _, texts in (*names, *own)), strict=True):
            printed.add_row(*row)
        shown.print(printed)
        shown.print()
