"""The demo from beginning to end."""

from pathlib import Path
from typing import Any

import attrs

from perceptio.demo.metrics import METRICS, collect_metrics
from perceptio.demo.picture import PICTURE, draw_picture
from perceptio.demo.plan import plan_jobs
from perceptio.demo.report import REPORT, write_report
from perceptio.demo.results import Demo
from perceptio.demo.settings import DemoSettings
from perceptio.errors import DataError
from perceptio.experiments.display import Display
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.local import LocalLauncher
from perceptio.ops.files import disk_errors
from perceptio.ops.json_files import write_json


@attrs.frozen(kw_only=True)
class DemoResult:
    """The result of a demo."""

    metrics: dict[str, Any]
    report: Path


def run_demo(settings: DemoSettings, display: Display, *, fresh: bool = False) -> DemoResult:
    """Train and evaluate every arm that is not complete, and write the report.

    Args:
        settings: What to make, and where.
        display: Shows the progress.
        fresh: Whether to discard what an earlier demo left in the folder.

    Raises:
        PerceptioError: A job failed; what is complete is reused the next time.
        DataError: The folder holds something that no demo wrote, or cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed, and the running jobs have saved their state.
    """
    jobs, cache = plan_jobs(settings), JobCache(settings.out)
    with disk_errors(settings.out, DataError):
        if fresh:
            for job in jobs:
                cache.forget(job)
        with display:
            LocalLauncher(cores=settings.cores, stop_on_failure=True).run(jobs, cache, display)
        metrics = collect_metrics(settings, jobs, cache)
        write_json(settings.out / METRICS, metrics)
        demo = Demo(root=settings.out, metrics=metrics)
        draw_picture(demo, settings.out / PICTURE)
        write_report(demo, settings.out / REPORT)
    return DemoResult(metrics=metrics, report=settings.out / REPORT)
