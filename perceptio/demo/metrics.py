"""`metrics.json`: the numbers of the report; docs/metrics.md explains every key."""

from collections.abc import Sequence
from typing import Any

from perceptio.demo.files import FIGURES
from perceptio.demo.plan import DEPTH_TOKENIZERS
from perceptio.demo.settings import DemoSettings
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache, covered_seconds
from perceptio.model.checkpoints.checkpoint import RECIPE
from perceptio.ops.json_files import read_json
from perceptio.ops.weights import CHECKPOINT

METRICS = "metrics.json"


def collect_metrics(settings: DemoSettings, jobs: Sequence[Job], cache: JobCache) -> dict[str, Any]:
    """Every number of a complete demo."""
    by_name = {job.name: job for job in jobs}
    arms = {arm: by_name[arm] for arm in settings.arms}
    held = {arm: read_json(job.out / CHECKPOINT / RECIPE) for arm, job in arms.items()}
    return {
        "seed": settings.seed,
        "scenes": dict(by_name["scenes"].settings["counts"]),
        "depth_tokenizer": {name: _figures(by_name[name]) for name in DEPTH_TOKENIZERS},
        **{arm: _figures(by_name[f"evaluation_{arm}"]) for arm in arms},
        "shortcuts": _figures(by_name["scenes"]),
        "steps": {arm: document["recipe"]["train"]["steps"] for arm, document in held.items()},
        "fingerprint": {arm: document["fingerprint"] for arm, document in held.items()},
        "seconds": _seconds(jobs, cache),
    }


def _figures(job: Job) -> Any:
    return read_json(job.out / FIGURES)


def _seconds(jobs: Sequence[Job], cache: JobCache) -> dict[str, float]:
    """Wall-clock in which a job of each stage ran, interrupted attempts included, and in which any job ran."""
    stages = dict.fromkeys(job.stage for job in jobs)
    seconds = {
        stage: covered_seconds(cache.intervals(job for job in jobs if job.stage == stage)) for stage in stages
    }
    seconds["total"] = covered_seconds(cache.intervals(jobs))
    return {stage: round(value, 1) for stage, value in seconds.items()}
