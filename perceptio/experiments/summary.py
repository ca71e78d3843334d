"""What an experiment found: per variant and figure the mean over seeds, and the difference to the baseline.

Three intervals are told apart, all of 95%. *Over seeds*, by Student's t: what training again with other seeds would
give. *Of questions*, of a single seed, as the evaluation has it (Wilson's for shares of right answers): what other
questions would give. And of a difference to the baseline, *paired* on the same questions by bootstrap. What cannot be
compared is said in a note.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs

from perceptio.errors import DataError
from perceptio.evaluation.answers import paired, read_answers, right_by_question, right_or_wrong
from perceptio.evaluation.comparison import Pairs, Right, SeedComparison, accuracy, compare
from perceptio.experiments.figures import Figure, chosen, flat, left_out
from perceptio.experiments.results import CellResult, ExperimentResult
from perceptio.ops.intervals import student_t

Interval = tuple[float, float]
ROUNDING = 1e-6
"""How far an accuracy may lie from what its answers come to."""


@attrs.frozen(kw_only=True)
class Estimate:
    """A figure of a variant.

    Attributes:
        value: Its mean over seeds.
        interval: Its 95% interval; None: there is none.
        over: What the interval is over: `"seeds"`, of two or more, or `"questions"`, of the only one.
        by_seed: The figure of each seed.
    """

    value: float
    interval: Interval | None
    over: Literal["seeds", "questions"] | None
    by_seed: Mapping[int, float]

    @classmethod
    def of(cls, figures: Mapping[int, Figure]) -> "Estimate":
        """What a figure's seeds come to."""
        by_seed = {seed: figure.value for seed, figure in figures.items()}
        over_seeds = _over_seeds(by_seed)
        [only, *_] = figures.values()
        interval = over_seeds if len(figures) > 1 else only.interval
        over: Literal["seeds", "questions"] = "seeds" if len(figures) > 1 else "questions"
        return cls(value=_mean(by_seed), interval=interval, over=over if interval else None, by_seed=by_seed)


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


@attrs.frozen(kw_only=True)
class VariantSummary:
    """What a variant found.

    Attributes:
        name: The variant's.
        cells: Its cells, by seed, whatever became of them.
        figures: The chosen figures that its complete cells have.
        differences: The same to the baseline; empty for the baseline itself.
        seconds: The mean over complete cells.
        parameters: Of its model.
    """

    name: str
    cells: tuple[CellResult, ...]
    figures: Mapping[str, Estimate]
    differences: Mapping[str, Contrast]
    seconds: float | None
    parameters: int | None

    @property
    def complete(self) -> int:
        """How many of its cells are complete."""
        return sum(cell.status == "complete" for cell in self.cells)


@attrs.frozen(kw_only=True)
class Summary:
    """What an experiment found.

    Attributes:
        name: The experiment's.
        baseline: The variant that the others are compared with.
        figures: The chosen figures, in order.
        variants: Every variant, in the experiment's order.
        notes: What a reader must know: what could not be compared, and what is not shown; a sentence each.
    """

    name: str
    baseline: str
    figures: tuple[str, ...]
    variants: tuple[VariantSummary, ...]
    notes: tuple[str, ...]

    @property
    def unfinished(self) -> tuple[CellResult, ...]:
        """The cells that are not complete."""
        return tuple(cell for one in self.variants for cell in one.cells if cell.status != "complete")


@attrs.frozen
class _Found:
    """What a complete cell found."""

    cell: CellResult
    figures: Mapping[str, Figure]
    right: Mapping[str, Right]
    """Whether each question was answered right, by what the answers are scored as."""


def summarize(result: ExperimentResult, figures: Sequence[str] | None = None) -> Summary:
    """What an experiment found, as far as it is run.

    Args:
        result: The experiment.
        figures: The figures that are wanted, by path; see `perceptio.experiments.figures.chosen`.

    Raises:
        InputError: A figure is wanted that no complete cell has.
    """
    notes: list[str] = []
    found = {
        (cell.variant, cell.seed): _found(cell, notes) for cell in result.cells if cell.status == "complete"
    }
    known = [one.figures for one in found.values()]
    names = chosen(known, figures) if known else []
    if figures is None and (others := left_out(known, names)):
        notes.append(f"Not shown, as not every cell has them: {', '.join(others)}; name them with --figures.")
    of_baseline = {seed: one for (variant, seed), one in found.items() if variant == result.baseline}
    if found and not of_baseline:
        notes.append(
            f"The baseline {result.baseline} has no complete cell, so there are no differences to it."
        )
    variants = []
    for variant in result.variants:
        own = {seed: one for (name, seed), one in found.items() if name == variant}
        contrasts = {}
        if variant != result.baseline and of_baseline and own:
            notes += _without_partner(variant, own, result.baseline, of_baseline)
            contrasts = dict(_contrasts(names, own, of_baseline, notes))
        seconds = [one.cell.seconds for one in own.values() if one.cell.seconds is not None]
        estimates = {
            name: Estimate.of(having)
            for name in names
            if (having := {seed: one.figures[name] for seed, one in own.items() if name in one.figures})
        }
        variants.append(
            VariantSummary(
                name=variant,
                cells=result.of_variant(variant),
                figures=estimates,
                differences=contrasts,
                seconds=sum(seconds) / len(seconds) if seconds else None,
                parameters=next((one.cell.parameters for one in own.values()), None),
            )
        )
    return Summary(
        name=result.name,
        baseline=result.baseline,
        figures=tuple(names),
        variants=tuple(variants),
        notes=tuple(dict.fromkeys(notes)),
    )


def _found(cell: CellResult, notes: list[str]) -> _Found:
    figures, right = flat(cell.figures), dict[str, Right]()
    if any(figure.answers is not None for figure in figures.values()):
        try:
            answers = read_answers(cell.answers.parent)
        except DataError as error:
            notes.append(f"{_named(cell)}: left out of paired differences. {error}")
            answers = []
        # Of an evaluation on several folders, figures and answers go by their folder.
        for data in dict.fromkeys(one.data for one in answers):
            of_folder = [one for one in answers if one.data == data]
            prefix = f"{data}." if data in cell.figures else ""
            for scored in right_or_wrong(of_folder):
                right[f"{prefix}{scored}"] = right_by_question(of_folder, scored)
    return _Found(cell, figures, right)


def _without_partner(
    variant: str, own: Mapping[int, _Found], baseline: str, of_baseline: Mapping[int, _Found]
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


def _contrasts(
    names: Sequence[str], own: Mapping[int, _Found], of_baseline: Mapping[int, _Found], notes: list[str]
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


def _contrast(by_seed: Mapping[int, float], readings: "Mapping[int, _Reading]") -> Contrast:
    comparison = None
    if readings:
        by_points = all(reading.by_points for reading in readings.values())
        comparison = compare([reading.pairs for reading in readings.values()], by_points=by_points)
    # Where all answers are alike, intervals have no width, and say nothing.
    alike = comparison is not None and not any(one.discordant for one in comparison.seeds)
    return Contrast(
        value=_mean(by_seed),
        of_questions=comparison.difference.interval if comparison and not alike else None,
        over_seeds=None if alike else _over_seeds(by_seed),
        by_seed=by_seed,
        pairs=dict(zip(readings, comparison.seeds, strict=True)) if comparison else {},
    )


@attrs.frozen
class _Reading:
    """Pairs of answers, and whether their accuracy is the mean over numbers of marked points."""

    pairs: Pairs
    by_points: bool


def _reading(name: str, first: _Found, second: _Found) -> _Reading | None:
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


def _mean(by_seed: Mapping[int, float]) -> float:
    return math.fsum(by_seed.values()) / len(by_seed)


def _over_seeds(by_seed: Mapping[int, float]) -> Interval | None:
    return student_t(list(by_seed.values())) if len(by_seed) > 1 else None
