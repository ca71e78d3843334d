"""Launchers: where the jobs of an experiment run, on this machine or elsewhere.

A launcher is given jobs, the cache that says which of them are complete, and a display. It must

- begin a job only when every job in `Job.after` is complete, and none that is complete itself, as
  `JobCache.complete` says (`Display.reused` is told);
- begin none that another process is at, as `JobCache.claim` says; `JobCache.release` gives it free again;
- call `JobCache.begin` before a job runs and `JobCache.end` after it: with `complete`, or with its last words where
  it failed, or with neither where it was stopped and goes on later;
- do a job's work by `perceptio.experiments.worker.perform(job.request, report)` in a process of its own, which finds
  the folders of `Job.out` and of `Job.after` under the same paths (elsewhere: on a shared folder), with the plugins
  that the environment variable `PERCEPTIO_PLUGIN_FILES` names here;
- let a job that is asked to stop save what it has (SIGINT or SIGTERM, and then time): when it is begun again on the
  same folder, it goes on from there. So a cluster may stop and requeue it as it likes;
- go on when a job fails, unless `LaunchSettings.stop_on_failure`; the jobs that come after it are not begun
  (`Display.skipped` is told);
- end a job that takes longer than `LaunchSettings.timeout_s`, which then has failed;
- return when nothing is left to begin or to wait for, and raise `Stopped` after Ctrl-C.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import attrs

from perceptio.interfaces.component import ComponentConfig

if TYPE_CHECKING:
    from perceptio.experiments.display import Display
    from perceptio.experiments.job import Job
    from perceptio.experiments.job_cache import JobCache


@attrs.frozen(kw_only=True)
class LaunchSettings:
    """How jobs are to run, wherever they do.

    Attributes:
        jobs: At most so many at a time; None: as many as the launcher finds fit.
        timeout_s: Seconds that one may take; None: as long as it likes.
        stop_on_failure: Whether all are stopped when one fails.
    """

    jobs: int | None = None
    timeout_s: float | None = None
    stop_on_failure: bool = False


class Launcher(Protocol):
    """Runs jobs; see the top of this file."""

    def run(self, jobs: "Sequence[Job]", cache: "JobCache", display: "Display") -> None:
        """Run every job that is not complete, in order as far as they can begin.

        Raises:
            PerceptioError: A job failed, and all are to be stopped then; they go on where they were the next time.
            Stopped: After Ctrl-C or SIGTERM, when the jobs have saved what they had.
        """


@attrs.frozen(kw_only=True)
class LauncherConfig(ComponentConfig, ABC):
    """Config of a launcher; its settings, which all have defaults, are what `--launcher-setting KEY=VALUE` sets."""

    @abstractmethod
    def build(self, settings: LaunchSettings) -> Launcher:
        """The launcher.

        Raises:
            PerceptioError: What it needs is not here.
        """
