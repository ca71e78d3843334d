"""Differences between a variant's figures and the baseline's: paired by seed, and by question if answers are right or
wrong.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs

from perceptio.errors import DataError
from perceptio.evaluation.answers import paired
from perceptio.evaluation.comparison import Pairs, Right, SeedComparison, accuracy, compare
from perceptio.experiments.figures import Figure, flat
from perceptio.experiments.results import CellResult
from perceptio.ops.intervals import student_t

Interval = tuple[float, float]
ROUNDING = 1e-6
"""Largest difference between an accuracy and the same value computed from its answers."""


@attrs.frozen(kw_only=True)
class Contrast:
    """The difference between a figure of a variant and the baseline's, over the seeds that both have.

    Attributes:
        value: The mean over seeds of the differences, variant minus baseline.
        of_questions: The paired 95% interval over questions by bootstrap, if answers are right or wrong; None
            otherwise, and if no question is discordant.
        over_seeds: The 95% interval of the differences over two or more seeds by Student's t; None as above.
        by_seed: The difference of each seed.
        pairs: For each seed, how often only one of the two was right, if answers are right or wrong.
    """

    value: float
    of_questions: Interval | None
    over_seeds: Interval | None
    by_seed: Mapping[int, float]
    pairs: Mapping[int, SeedComparison]

    @property
    def p(self) -> float | None:
        """The p-value of McNemar's exact test for a single seed; answers of several seeds are not independent."""
        return next(iter(self.pairs.values())).p if len(self.pairs) == 1 else None


@attrs.frozen
class Found:
    """The results of a complete cell."""

    cell: CellResult
    figures: Mapping[str, Figure]
    right: Mapping[str, Right]
    """Whether each question was answered right, by scored figure."""


@attrs.frozen
class _Reading:
    """Pairs of answers, and whether their accuracy is the mean over numbers of marked points."""

    pairs: Pairs
    by_points: bool


def found_by(cell: CellResult, notes: list[str]) -> Found:
    """Return the results of a complete cell; add a note for answers that cannot be read."""
    figures: Mapping[str, Figure] = flat(cell.figures)
    right: Mapping[str, Right] = {}
    if any(figure.answers is not None for figure in figures.values()):
        try:
            right = cell.right()
        except DataError as error:
            notes.append(f"{_named(cell)}: left out of paired differences. {error}")
    return Found(cell, figures, right)


def seeds_without_partner(
    variant: str, own: Mapping[int, Found], baseline: str, of_baseline: Mapping[int, Found]
) -> Iterator[str]:
    """Yield notes about seeds that only one of two variants has."""
    rest = "over the others" if own.keys() & of_baseline.keys() else "not known"
    for which, one, name, other in (
        (variant, own, baseline, of_baseline),
        (baseline, of_baseline, variant, own),
    ):
        alone = [str(seed) for seed in one if seed not in other]
        if alone:
            seeds = f"seed{'s' * (len(alone) > 1)} {', '.join(alone)}"
            yield (
                f"{name} has no complete cell of {seeds}, which {which} has: the difference of {variant} to "
                f"{baseline} is {rest}."
            )


def contrasts_of(
    names: Sequence[str], own: Mapping[int, Found], of_baseline: Mapping[int, Found], notes: list[str]
) -> Iterator[tuple[str, Contrast]]:
    """Yield the differences of a variant to the baseline, by figure; add a note for what cannot be compared."""
    for name in names:
        by_seed, readings = dict[int, float](), dict[int, _Reading]()
        for seed, second in own.items():
            first = of_baseline.get(seed)
            if first is None or name not in first.figures or name not in second.figures:
                continue
            try:
                reading = _reading(name, first, second)
            except DataError as error:
                notes.append(
                    f"{_named(second.cell)}: left out of the difference of {name} to {first.cell.variant}. {error}"
                )
                continue
            by_seed[seed] = second.figures[name].value - first.figures[name].value
            if reading is not None:
                readings[seed] = reading
        if readings:
            # A difference covers only seeds whose questions are paired; notes name seeds without answers.
            by_seed = {seed: by_seed[seed] for seed in readings}
        if by_seed:
            yield name, _contrast(by_seed, readings)


def _contrast(by_seed: Mapping[int, float], readings: Mapping[int, _Reading]) -> Contrast:
    comparison = None
    if readings:
        by_points = all(reading.by_points for reading in readings.values())
        comparison = compare([reading.pairs for reading in readings.values()], by_points=by_points)
    # If all answers are alike, intervals have zero width and carry no information.
    alike = comparison is not None and not any(one.discordant for one in comparison.seeds)
    return Contrast(
        value=mean_over_seeds(by_seed),
        of_questions=comparison.difference.interval if comparison and not alike else None,
        over_seeds=None if alike else interval_over_seeds(by_seed),
        by_seed=by_seed,
        pairs=dict(zip(readings, comparison.seeds, strict=True)) if comparison else {},
    )


def _reading(name: str, first: Found, second: Found) -> _Reading | None:
    """Return the paired answers whose accuracy a figure is; None if the figure is not an accuracy.

    Raises:
        DataError: The answers belong to other questions, or their accuracy differs from the figure.
    """
    scored = first.figures[name].answers
    if scored is None or not (scored in first.right and scored in second.right):
        return None
    pairs = paired(first.right[scored], second.right[scored], scored)
    for by_points in (True, False):
        if all(
            abs(accuracy(one.right[scored], by_points=by_points) - one.figures[name].value) < ROUNDING
            for one in (first, second)
        ):
            return _Reading(pairs, by_points)
    raise DataError("The answers do not come to this figure: evaluate the cell again.")


def _named(cell: CellResult) -> str:
    return f"{cell.variant}, seed {cell.seed}"


def mean_over_seeds(by_seed: Mapping[int, float]) -> float:
    """Return the mean of the figures of seeds."""
    return math.fsum(by_seed.values()) / len(by_seed)


def interval_over_seeds(by_seed: Mapping[int, float]) -> Interval | None:
    """Return the 95% interval by Student's t; None for a single seed, or if all seeds agree exactly."""
    return student_t(list(by_seed.values())) if len(set(by_seed.values())) > 1 else None
