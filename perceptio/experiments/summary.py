"""What an experiment found: per variant and figure the mean over seeds, and the difference to the baseline.

Three intervals are told apart, all of 95%. *Over seeds*, by Student's t: what training again with other seeds would
give. *Of questions*, of a single seed, as the evaluation has it (Wilson's for shares of right answers): what other
questions would give. And of a difference to the baseline, *paired* on the same questions by bootstrap. What cannot be
compared is said in a note.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs

from perceptio.experiments.contrasts import (
    Contrast,
    Interval,
    contrasts_of,
    found_by,
    interval_over_seeds,
    mean_over_seeds,
    seeds_without_partner,
)
from perceptio.experiments.figures import Figure, chosen, left_out
from perceptio.experiments.results import CellResult, ExperimentResult


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
        over_seeds = interval_over_seeds(by_seed)
        [only, *_] = figures.values()
        interval = over_seeds if len(figures) > 1 else only.interval
        over: Literal["seeds", "questions"] = "seeds" if len(figures) > 1 else "questions"
        return cls(
            value=mean_over_seeds(by_seed),
            interval=interval,
            over=over if interval else None,
            by_seed=by_seed,
        )


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
        (cell.variant, cell.seed): found_by(cell, notes) for cell in result.cells if cell.status == "complete"
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
    notes += _of_summaries(result)
    variants = []
    for variant in result.variants:
        own = {seed: one for (name, seed), one in found.items() if name == variant}
        contrasts = {}
        if variant != result.baseline and of_baseline and own:
            notes += seeds_without_partner(variant, own, result.baseline, of_baseline)
            contrasts = dict(contrasts_of(names, own, of_baseline, notes))
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


def _of_summaries(result: ExperimentResult) -> Iterator[str]:
    """What is said of cells that were run elsewhere."""
    cells = [cell for cell in result.cells if cell.summary is not None]
    if cells:
        where = dict.fromkeys(
            f"{cell.device or 'an unknown device'} with "
            f"{' and '.join(f'{name} {version}' for name, version in cell.versions.items()) or 'unknown versions'}"
            for cell in cells
        )
        yield f"{len(cells)} cells are told by their summaries; they were evaluated on {'; '.join(where)}."
