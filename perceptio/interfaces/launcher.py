"""Launchers: run the jobs of an experiment, on this machine or elsewhere.

A launcher is given jobs, the cache that knows which of them are complete, and a display. It must

- start a job only when every job in `Job.after` is complete (`JobCache.complete`);
- not start a job that is itself complete, and report it with `Display.reused`;
- not start a job that another process works on: claim each job with `JobCache.claim`, and release it with
  `JobCache.release`;
- call `JobCache.begin` before a job runs and `JobCache.end` after it: with `complete` if it succeeded, with its error
  message if it failed, and with neither if it was stopped and will be resumed;
- run each job with `perceptio.experiments.worker.perform(job.request, report)` in a process of its own. The process
  must find the folders of `Job.out` and `Job.after` under the same paths (on another machine: in a shared folder),
  and load the plugins that the environment variable `PERCEPTIO_PLUGIN_FILES` names on this machine;
- stop a job with SIGINT or SIGTERM and then leave it time to save its state. A job that is started again on the same
  folder resumes from this state, so a cluster may stop and requeue it at any time;
- continue after a job has failed, unless `LaunchSettings.stop_on_failure` is set. Jobs that depend on the failed job
  are not started but reported with `Display.skipped`;
- end a job that takes longer than `LaunchSettings.timeout_s` and count it as failed;
- return when nothing is left to start or to wait for, and raise `Stopped` after Ctrl-C.
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
    """How jobs are run, with any launcher.

    Attributes:
        jobs: The maximum number of jobs at a time. None: the launcher decides.
        timeout_s: The maximum duration of a job in seconds. None: no limit.
        stop_on_failure: Whether all jobs are stopped when one fails.
    """

    jobs: int | None = None
    timeout_s: float | None = None
    stop_on_failure: bool = False


class Launcher(Protocol):
    """Runs jobs; the docstring of this module lists the requirements."""

    def run(self, jobs: "Sequence[Job]", cache: "JobCache", display: "Display") -> None:
        """Run every job that is not complete. Jobs that can start are started in the given order.

        Raises:
            PerceptioError: A job failed and `LaunchSettings.stop_on_failure` is set. The other jobs were stopped, and
                the next call resumes them.
            Stopped: After Ctrl-C or SIGTERM, once the jobs have saved their state.
        """


@attrs.frozen(kw_only=True)
class LauncherConfig(ComponentConfig, ABC):
    """Config of a launcher. All its settings have defaults; `--launcher-setting KEY=VALUE` changes them."""

    @abstractmethod
    def build(self, settings: LaunchSettings) -> Launcher:
        """Build the launcher.

        Raises:
            PerceptioError: Something that the launcher needs is not installed or not available.
        """
