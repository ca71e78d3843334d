"""A job on a cluster: the function that submitit calls there, and how the launcher learns its state.

The job's process is the same as on one machine, `perceptio.experiments.worker`. The function that submitit calls
supervises it, records in the cache how it ends, and regularly writes its progress, so everyone with access to the
folder knows the state and the launcher need not run. Before a job's time limit, or when it is preempted, the cluster
sends a signal. The process then saves and stops, submitit queues the job again, and it continues bit for bit.
"""

import os
import queue
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.local import LOOK_EVERY_S, PATIENCE_S, last_words
from perceptio.experiments.process import Process, Reports
from perceptio.ops.interrupts import Stopped, interrupt_flag
from perceptio.ops.json_files import write_json

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

WRITE_EVERY_S = 5.0
"""Seconds between two reports of a job's progress."""
SHARE_TO_SAVE = 0.8
"""Share of the time between the signal and the end that the process has for saving; the rest is for queueing."""
AFTER_TERM_S = 600.0
"""Seconds that a job waits to be ended after Slurm told it to end: it would not be requeued if it ended by itself."""


def progress_of(cache: JobCache, job: Job) -> Path:
    """Return the file with a job's progress: `{"done": 3, "total": 10, "note": "loss 1.2"}`."""
    return cache.root / f"{job.name}.progress.json"


def run_job(sent: Mapping[str, Any]) -> None:
    """Run a job in the process that submitit starts for it.

    Args:
        sent: JSON: `job` (a `Job.document`), `cache` (the folder of the cache), `folder` (the working directory),
            `environment` (variables to set), `timeout_s` (seconds after which it has failed, or None), and `save_s`
            (seconds between the signal and the end).

    Raises:
        Stopped: It was told to end by SIGINT or SIGTERM, and has saved its state.
    """
    from submitit.core.utils import UncompletedJobError

    global _attempt
    os.chdir(sent["folder"])
    os.environ.update(sent["environment"])
    job, cache = Job.of_document(sent["job"]), JobCache(Path(sent["cache"]))
    while not cache.claim(job):  # Another process runs it, and may be about to end.
        time.sleep(LOOK_EVERY_S)
    try:
        if cache.complete(job):
            return
        _attempt = _Attempt(job, cache, timeout_s=sent["timeout_s"], save_s=sent["save_s"])
        _attempt.run()
    except UncompletedJobError:  # Raised in the signal handler.
        limit = "reached its time limit too often to be queued again: give more time_min, or more requeues"
        cache.end(job, complete=False, error=f"{limit}; what it saved is kept.")
        raise
    finally:
        _attempt = None
        cache.release(job)


def _checkpoint(sent: Mapping[str, Any]) -> "DelayedSubmission":
    """Return what to run when the job is queued again; submitit calls this when a signal interrupts `run_job`."""
    from submitit.helpers import DelayedSubmission

    if _attempt is not None:
        _attempt.stop()
    return DelayedSubmission(run_job, sent)


run_job.checkpoint = _checkpoint  # type: ignore[attr-defined]
_attempt: "_Attempt | None" = None
"""The current attempt of `run_job`, for the signal handler."""


class _Attempt:
    """The process of a job, from its start to its end or to the signal."""

    def __init__(self, job: Job, cache: JobCache, *, timeout_s: float | None, save_s: float) -> None:
        self.job, self.cache, self.timeout_s, self.save_s = job, cache, timeout_s, save_s
        self._process: Process | None = None
        self._reports: Reports = queue.Queue()
        self._said = ""
        self._written = -WRITE_EVERY_S

    def run(self) -> None:
        log = self.cache.log_of(self.job)
        with interrupt_flag() as interrupted:
            log_from, process = self._start(log)
            begun, told, late = time.monotonic(), None, None
            while self._goes_on():
                now = time.monotonic()
                overdue = self.timeout_s is not None and now > begun + self.timeout_s
                if told is None and (overdue or interrupted.is_set()):
                    told, late = now, self.timeout_s if overdue else None
                    process.interrupt()
                elif told is not None and now > told + PATIENCE_S:
                    process.kill()
            status = process.wait()
            asked = interrupted.is_set() or status == -signal.SIGTERM  # Slurm signals every process of a job.
            words = last_words(status, said=self._said, log=log, log_from=log_from, timeout_s=late)
            self.cache.end(self.job, complete=status == 0, error="" if asked else words)
            if not asked or status == 0:
                return
            if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
                time.sleep(AFTER_TERM_S)
        raise Stopped(interrupted.signal or signal.SIGTERM)

    def stop(self) -> None:
        """Let the process save and end, and record this."""
        if self._process is None:
            return
        self._process.interrupt()
        status = self._process.wait(SHARE_TO_SAVE * self.save_s)
        self.cache.end(self.job, complete=status == 0)

    def _start(self, log: Path) -> tuple[int, Process]:
        """Start the process; return the offset of its part of the log, and the process."""
        with _without_signal():
            self.cache.begin(self.job)
            with log.open("a", encoding="utf-8") as file:
                log_from = file.tell()
                self._process = process = Process(self.job, self._reports, file, {})
        return log_from, process

    def _goes_on(self) -> bool:
        """Handle a report; return whether the process still runs."""
        try:
            _, report = self._reports.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            return True
        if report is None:
            return False
        self._said = report.get("error", self._said)
        if "done" in report and time.monotonic() > self._written + WRITE_EVERY_S:
            self._written = time.monotonic()
            write_json(progress_of(self.cache, self.job), report)
        return True


@contextmanager
def _without_signal() -> Iterator[None]:
    """Block the signal before the time limit for a while, so that processes started in the block never receive it.

    Slurm sends it to every process of a job, and it would kill a process that does not handle it.
    """
    from submitit.core.job_environment import JobEnvironment

    numbers = [signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
