"""The results of an experiment: for each variant and figure the mean over seeds, and the difference to the baseline.

There are three kinds of 95% intervals. An interval *over seeds*, by Student's t, describes the variation if training
is repeated with other seeds. An interval *of questions*, for a single seed, comes from the evaluation (Wilson's for
shares of right answers) and describes the variation over other questions. The interval of a difference to the
baseline is *paired* on the same questions, by bootstrap. A note names everything that cannot be compared.
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
from perceptio.ops.wording import number_of


@attrs.frozen(kw_only=True)
class Estimate:
    """A figure of a variant.

    Attributes:
        value: Its mean over seeds.
        interval: Its 95% interval; None: there is none.
        over: What the interval is over: `"seeds"`, for two or more, or `"questions"`, for a single seed.
        by_seed: The figure of each seed.
    """

    value: float
    interval: Interval | None
    over: Literal["seeds", "questions"] | None
    by_seed: Mapping[int, float]

    @classmethod
    def of(cls, figures: Mapping[int, Figure]) -> "Estimate":
        """Combine a figure's values of several seeds."""
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
    """The results of a variant.

    Attributes:
        name: The variant's name.
        cells: Its cells, by seed, whatever their status.
        figures: The chosen figures, over its complete cells.
        differences: The differences of these to the baseline; empty for the baseline itself.
        seconds: The mean duration over complete cells.
        parameters: Number of parameters of its model.
    """

    name: str
    cells: tuple[CellResult, ...]
    figures: Mapping[str, Estimate]
    differences: Mapping[str, Contrast]
    seconds: float | None
    parameters: int | None

    @property
    def complete(self) -> int:
        """Number of its complete cells."""
        return sum(cell.status == "complete" for cell in self.cells)


@attrs.frozen(kw_only=True)
class Summary:
    """The results of an experiment.

    Attributes:
        name: The experiment's name.
        baseline: The variant that the others are compared with.
        figures: The chosen figures, in order.
        variants: Every variant, in the experiment's order.
        notes: Sentences that a reader must know: what could not be compared, and what is not shown.
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
    """Summarize the results of an experiment so far.

    Args:
        result: The experiment.
        figures: The requested figures, by path; see `perceptio.experiments.figures.chosen`.

    Raises:
        InputError: No complete cell has a requested figure.
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
    """Yield a note about cells that were run elsewhere."""
    cells = [cell for cell in result.cells if cell.summary is not None]
    if cells:
        where = dict.fromkeys(
            f"{cell.device or 'an unknown device'} with "
            f"{' and '.join(f'{name} {version}' for name, version in cell.versions.items()) or 'unknown versions'}"
            for cell in cells
        )
        yield f"{number_of(len(cells), 'cell')} told by summaries, and evaluated on {'; '.join(where)}."
