"""`metrics.json`: the numbers of the report; docs/metrics.md explains every key."""

from collections.abc import Mapping, Sequence
from typing import Any

from perceptio.demo.files import FIGURES
from perceptio.demo.plan import DEPTH_TOKENIZERS
from perceptio.demo.settings import PERCEPTIO, STREAMS, DemoSettings
from perceptio.evaluation.answers import paired, read_answers, right_by_question
from perceptio.evaluation.comparison import compare
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache, covered_seconds
from perceptio.model.checkpoints.checkpoint import RECIPE
from perceptio.ops.json_files import read_json
from perceptio.ops.weights import CHECKPOINT

METRICS = "metrics.json"
QUESTIONS = "relative_depth"
UNPARSED = 0.01
"""A control has not learned if more than this share of its answers contains no letter."""


def collect_metrics(settings: DemoSettings, jobs: Sequence[Job], cache: JobCache) -> dict[str, Any]:
    """Return every number of a complete demo."""
    by_name = {job.name: job for job in jobs}
    arms = {arm: by_name[arm] for arm in settings.arms}
    held = {arm: read_json(job.out / CHECKPOINT / RECIPE) for arm, job in arms.items()}
    figures = {arm: _figures(by_name[f"evaluation_{arm}"]) for arm in arms}
    shortcuts = _figures(by_name["scenes"])
    for arm in arms:
        figures[arm]["answer_format"] = held[arm]["recipe"]["answer_format"]
        if "validation" in figures[arm]:
            commonest = shortcuts["validation"]["majority"]
            figures[arm]["learned"] = has_learned(figures[arm]["validation"][QUESTIONS], commonest)
    return {
        "seed": settings.seed,
        "scenes": dict(by_name["scenes"].settings["counts"]),
        "depth_tokenizer": {name: _figures(by_name[name]) for name in DEPTH_TOKENIZERS},
        **figures,
        "paired": {
            f"{PERCEPTIO}_minus_{arm}": _difference(by_name[f"evaluation_{arm}"], by_name)
            for arm in arms
            if arm not in (PERCEPTIO, STREAMS)
        },
        "shortcuts": shortcuts,
        "steps": {arm: document["recipe"]["train"]["steps"] for arm, document in held.items()},
        "fingerprint": {arm: document["fingerprint"] for arm, document in held.items()},
        "seconds": _seconds(jobs, cache),
    }


def has_learned(answers: Mapping[str, Any], commonest: float) -> bool:
    """Return whether an arm has learned to answer, without which it is no valid control for Perceptio.

    Args:
        answers: Its figures on marked-point questions of validation scenes.
        commonest: The accuracy of the most frequent letter there.

    Returns:
        Whether its 95% interval is above that accuracy, and at most `UNPARSED` of its answers contain no letter.
    """
    low, _ = answers["interval"]
    return bool(low > commonest and answers["unparsed"] <= UNPARSED * answers["count"])


def _difference(control: Job, jobs: Mapping[str, Job]) -> dict[str, Any]:
    """Return how much more often Perceptio is right than a control, on the same questions."""
    theirs, ours = (
        right_by_question(read_answers(job.out), QUESTIONS)
        for job in (control, jobs[f"evaluation_{PERCEPTIO}"])
    )
    found = compare([paired(theirs, ours, QUESTIONS)], by_points=True)
    (seed,) = found.seeds
    return {
        "difference": found.difference.value,
        "interval": list(found.difference.interval),
        "count": seed.count,
        "discordant": seed.discordant,
        "p": seed.p,
    }


def _figures(job: Job) -> Any:
    return read_json(job.out / FIGURES)


def _seconds(jobs: Sequence[Job], cache: JobCache) -> dict[str, float]:
    """Return the wall-clock time in which jobs of each stage, and any jobs, ran, including interrupted attempts."""
    stages = dict.fromkeys(job.stage for job in jobs)
    seconds = {
        stage: covered_seconds(cache.intervals(job for job in jobs if job.stage == stage)) for stage in stages
    }
    seconds["total"] = covered_seconds(cache.intervals(jobs))
    return {stage: round(value, 1) for stage, value in seconds.items()}
