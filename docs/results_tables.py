"""The tables of `docs/results.md`, from the summaries of cells that lie beside the experiments.

    python docs/results_tables.py     writes them into the page, between `<!-- table: NAME -->` and `<!-- end -->`

A test compares the page with what this would write.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from perceptio.experiments.contrasts import Contrast
from perceptio.experiments.experiment import load_experiment
from perceptio.experiments.figures import Figure, flat
from perceptio.experiments.results import ExperimentResult
from perceptio.experiments.summaries import read_summaries
from perceptio.experiments.summary import VariantSummary, summarize
from perceptio.experiments.tables import p_text

PAGE = Path(__file__).with_name("results.md")
EXPERIMENTS = ("what_is_read", "what_perceiving_buys", "tokens", "fsq", "losses", "lessons", "steps")
SEEDS = (0, 1, 2)
"""Named before any was run."""
NOTHING = "–"
RIGHT = "relative_depth.mean"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page_with_tables(text: str) -> str:
    """The page's text with its tables as the summaries have them now."""
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


def what_perceiving_buys() -> str:
    """Every way of answering with every number of labels: right answers, and what the values and the map say."""
    return _of_variants(
        "what_perceiving_buys", others=("relative_depth_values.mean", "relative_depth_readout.mean")
    )


def tokens() -> str:
    """Every kind of depth tokens: right answers, and how good the map is."""
    return _of_variants(
        "tokens", others=("relative_depth_readout.mean", "depth_block.absrel", "depth_block.delta1")
    )


PAIRS = (
    ("what_perceiving_buys", "lookup, 100 labels", "readout_without_block, 100 labels"),
    ("what_perceiving_buys", "lookup, 100 labels", "lookup_from_vision, 100 labels"),
    ("what_perceiving_buys", "lookup, 1000 labels", "readout_without_block, 1000 labels"),
    ("what_perceiving_buys", "lookup, 1000 labels", "lookup_from_vision, 1000 labels"),
    ("fsq", "lookup, fsq", "lookup_from_vision, fsq"),
)


def pairs() -> str:
    """Look-up answers against their controls: paired differences by seed, and their mean."""
    head = ["variant", "minus", *(f"seed {seed}" for seed in SEEDS), "mean (other questions)", "other seeds"]
    rows = []
    for experiment, first, second in PAIRS:
        result = _result(experiment)
        if result is None:
            continue
        summary = summarize(attrs.evolve(result, baseline=second), [RIGHT])
        contrast = next(one for one in summary.variants if one.name == first).differences.get(RIGHT)
        if contrast is None:
            continue
        by_seed = {seed: f"{100 * value:+.1f}" for seed, value in contrast.by_seed.items()}
        over_seeds = NOTHING if contrast.over_seeds is None else _points(contrast.over_seeds)
        by_seeds = [by_seed.get(seed, NOTHING) for seed in SEEDS]
        rows.append([first, second, *by_seeds, _contrast(contrast)[0], over_seeds])
    return _markdown(head, rows)


def fsq() -> str:
    """Look-up answers with either kind of codes, and their controls: right answers, and what the map says."""
    return _of_variants("fsq", others=("relative_depth_values.mean", "relative_depth_readout.mean"))


def what_lookup_reads() -> str:
    """What stands in the block that look-up answers follow."""
    return _what_is_read("lookup")


def what_codes_read_out_reads() -> str:
    """What stands in the block that read-out answers follow."""
    return _what_is_read("codes_read_out")


def _what_is_read(variant: str) -> str:
    """Right answers with each control, and the difference to the model's own codes, by seed."""
    result = _result("what_is_read")
    cells = [] if result is None else [one for one in result.of_variant(variant) if one.status == "complete"]
    figures = [flat(cell.figures) for cell in cells]
    head = ["what stands in the block"]
    for cell in cells:
        head += [f"seed {cell.seed}", "Δ to its own"]
    rows = [["as it answers by itself", *_alone(RIGHT, figures)]]
    for name, words in CONTROLS.items():
        at = f"controls.relative_depth.depth.{name}"
        pairs = [(_share(one[f"{at}.accuracy"]), _difference(one[f"{at}.difference"])) for one in figures]
        rows.append([words, *(text for pair in pairs for text in pair)])
    rows += [[words, *_alone(path, figures)] for path, words in BESIDE.items()]
    return _markdown(head, rows)


def _alone(path: str, figures: Sequence[Mapping[str, Figure]]) -> list[str]:
    return [text for one in figures for text in (_share(one.get(path)), NOTHING)]


CONTROLS = {
    "self": "its own codes, put in",
    "oracle": "the true codes",
    "another": "another image's",
    "random": "random codes",
    "resampled": "random, with the distribution of each place",
    "first_repeated": "the first code, repeated",
    "markers_only": "nothing between the markers",
}
BESIDE = {
    "relative_depth_readout.mean": "read off the decoded map",
    "shortcuts.relative_depth.largest": "shortcut: the point on the largest object",
}


def not_run() -> str:
    """How many cells of each experiment are summarized, and how many there are with three seeds."""
    rows = []
    for name in EXPERIMENTS:
        experiment, result = load_experiment(f"experiments/{name}"), _result(name)
        cells = [] if result is None else [cell for cell in result.cells if cell.status == "complete"]
        rows.append(
            [
                f"[`{name}`](../recipes/experiments/{name}.py)",
                str(len(experiment.variants)),
                f"{len(cells)} of {len(experiment.variants) * len(SEEDS)}",
            ]
        )
    return _markdown(["experiment", "variants", "cells that were run"], rows)


TABLES: dict[str, Callable[[], str]] = {
    one.__name__: one
    for one in (
        what_lookup_reads,
        what_codes_read_out_reads,
        what_perceiving_buys,
        pairs,
        tokens,
        fsq,
        not_run,
    )
}


def _of_variants(name: str, *, others: Sequence[str]) -> str:
    """A row for each variant that was run: right answers by seed, paired differences, means of other figures."""
    result = _result(name)
    if result is None:
        return "No cell of it has been run.\n"
    summary = summarize(result, [RIGHT, *others])
    head = ["variant", *(f"seed {seed}" for seed in SEEDS), f"Δ to {result.baseline}", "p, by seed"]
    head += [OTHERS[one] for one in others] + ["minutes"]
    rows = [
        [*_row(one), *(_mean(one, figure) for figure in others), _minutes(one)]
        for one in summary.variants
        if one.complete
    ]
    never = [one.name for one in summary.variants if not one.complete]
    said = f"\nNot run: {'; '.join(never)}.\n" if never else ""
    return _markdown(head, rows) + said


OTHERS = {
    "relative_depth_values.mean": "the nearest of the values is right",
    "relative_depth_readout.mean": "the map is right",
    "depth_block.absrel": "absrel",
    "depth_block.delta1": "δ1",
}


def _row(one: VariantSummary) -> list[str]:
    by_seed = {cell.seed: cell for cell in one.cells if cell.status == "complete"}
    shares = [_share(flat(by_seed[seed].figures)[RIGHT]) if seed in by_seed else NOTHING for seed in SEEDS]
    contrast = one.differences.get(RIGHT)
    return [one.name, *shares, *_contrast(contrast)]


def _contrast(contrast: Contrast | None) -> tuple[str, str]:
    if contrast is None:
        return NOTHING, NOTHING
    said = f"{100 * contrast.value:+.1f}"
    if contrast.of_questions is not None:
        said += f" ({_points(contrast.of_questions)})"
    return said, ", ".join(p_text(one.p).removeprefix("= ") for one in contrast.pairs.values()) or NOTHING


def _share(figure: Figure | None) -> str:
    """A share in percent, with the interval of questions."""
    if figure is None:
        return NOTHING
    said = f"{100 * figure.value:.1f}"
    if figure.interval is None:
        return said
    low, high = figure.interval
    return f"{said} ({100 * low:.1f}–{100 * high:.1f})"


def _difference(figure: Figure) -> str:
    said = f"{100 * figure.value:+.1f}"
    return said if figure.interval is None else f"{said} ({_points(figure.interval)})"


def _points(interval: tuple[float, float]) -> str:
    return " to ".join(f"{100 * one:+.1f}" for one in interval)


def _mean(one: VariantSummary, figure: str) -> str:
    estimate = one.figures.get(figure)
    if estimate is None:
        return NOTHING
    return f"{estimate.value:.3f}" if figure.startswith("depth_block.") else f"{100 * estimate.value:.1f}"


def _minutes(one: VariantSummary) -> str:
    return NOTHING if one.seconds is None else f"{one.seconds / 60:.0f}"


def _result(name: str) -> ExperimentResult | None:
    experiment = load_experiment(f"experiments/{name}")
    assert experiment.summaries is not None
    return read_summaries(experiment) if experiment.summaries.is_dir() else None


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
