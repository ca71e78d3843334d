"""How much higher a variant's figures are than the baseline's: paired by seed and, where answers are right or wrong,
by question.
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
"""How far an accuracy may lie from what its answers come to."""


@attrs.frozen(kw_only=True)
class Contrast:
    """How much higher a figure of a variant is than the baseline's, over the seeds that both have.

    Attributes:
        value: The mean over seeds of the differences.
        of_questions: The paired 95% interval, where answers are right or wrong: by bootstrap over questions. None,
            too, where no question is discordant.
        over_seeds: The 95% interval of the differences over seeds, of two or more, by Student's t. None likewise.
        by_seed: The difference of each seed.
        pairs: Of each seed how often one of the two alone was right, where answers are right or wrong.
    """

    value: float
    of_questions: Interval | None
    over_seeds: Interval | None
    by_seed: Mapping[int, float]
    pairs: Mapping[int, SeedComparison]

    @property
    def p(self) -> float | None:
        """The p-value of McNemar's exact test, of a single seed; answers of several are not independent."""
        return next(iter(self.pairs.values())).p if len(self.pairs) == 1 else None


@attrs.frozen
class Found:
    """What a complete cell found."""

    cell: CellResult
    figures: Mapping[str, Figure]
    right: Mapping[str, Right]
    """Whether each question was answered right, by what the answers are scored as."""


@attrs.frozen
class _Reading:
    """Pairs of answers, and whether their accuracy is the mean over numbers of marked points."""

    pairs: Pairs
    by_points: bool


def found_by(cell: CellResult, notes: list[str]) -> Found:
    """What a complete cell found; answers that cannot be read are noted."""
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
    """What is said of seeds that only one of two variants has."""
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
    """The differences of a variant to the baseline, by figure; what cannot be compared is noted."""
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
            # A difference is over the seeds whose questions are paired; the others' answers are noted as missing.
            by_seed = {seed: by_seed[seed] for seed in readings}
        if by_seed:
            yield name, _contrast(by_seed, readings)


def _contrast(by_seed: Mapping[int, float], readings: Mapping[int, _Reading]) -> Contrast:
    comparison = None
    if readings:
        by_points = all(reading.by_points for reading in readings.values())
        comparison = compare([reading.pairs for reading in readings.values()], by_points=by_points)
    # Where all answers are alike, intervals have no width, and say nothing.
    alike = comparison is not None and not any(one.discordant for one in comparison.seeds)
    return Contrast(
        value=mean_over_seeds(by_seed),
        of_questions=comparison.difference.interval if comparison and not alike else None,
        over_seeds=None if alike else interval_over_seeds(by_seed),
        by_seed=by_seed,
        pairs=dict(zip(readings, comparison.seeds, strict=True)) if comparison else {},
    )


def _reading(name: str, first: Found, second: Found) -> _Reading | None:
    """The answers of which a figure is the accuracy, in pairs; None: it is not of right and wrong answers.

    Raises:
        DataError: They are of other questions, or do not come to the figure.
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
    """The mean of the figures of seeds."""
    return math.fsum(by_seed.values()) / len(by_seed)


def interval_over_seeds(by_seed: Mapping[int, float]) -> Interval | None:
    """Its 95% interval by Student's t; None for a single seed, and where all agree exactly, which says nothing."""
    return student_t(list(by_seed.values())) if len(set(by_seed.values())) > 1 else None
