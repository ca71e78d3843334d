"""A job on a cluster: what submitit calls there, and how the launcher hears of it.

The job's process is the same as on one machine, `perceptio.experiments.worker`. What submitit has started looks after
it, records in the cache how it ends, and writes now and then how far it is, so that whoever sees the folder knows;
the launcher need not be there. Before a job's time limit, or when it is preempted, the cluster signals: the process
saves and stops, submitit queues the job again, and it goes on where it was, to the bit.
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
"""Seconds between two reports of how far a job is."""
SHARE_TO_SAVE = 0.8
"""Of the seconds between the signal and the end, those that the process has for saving; the rest is for queueing."""
AFTER_TERM_S = 600.0
"""Seconds that a job which Slurm told to end waits for that: one that ends by itself would not be queued again."""


def progress_of(cache: JobCache, job: Job) -> Path:
    """The file that says how far a job is: `{"done": 3, "total": 10, "note": "loss 1.2"}`."""
    return cache.root / f"{job.name}.progress.json"


def run_job(sent: Mapping[str, Any]) -> None:
    """Do a job in the process that submitit starts for it.

    Args:
        sent: JSON: `job` (a `Job.document`), `cache` (the folder of the cache), `folder` (the working folder),
            `environment` (variables to set), `timeout_s` (seconds after which it has failed, or None), and `save_s`
            (seconds between the signal and the end).

    Raises:
        Stopped: It was told to end by SIGINT or SIGTERM, and has saved what it had.
    """
    from submitit.core.utils import UncompletedJobError

    global _attempt
    os.chdir(sent["folder"])
    os.environ.update(sent["environment"])
    job, cache = Job.of_document(sent["job"]), JobCache(Path(sent["cache"]))
    while not cache.claim(job):  # Another process is at it, perhaps one that is about to end.
        time.sleep(LOOK_EVERY_S)
    try:
        if cache.complete(job):
            return
        _attempt = _Attempt(job, cache, timeout_s=sent["timeout_s"], save_s=sent["save_s"])
        _attempt.run()
    except UncompletedJobError:  # Raised in the handler of the signal.
        limit = "reached its time limit too often to be queued again: give more time_min, or more requeues"
        cache.end(job, complete=False, error=f"{limit}; what it saved is kept.")
        raise
    finally:
        _attempt = None
        cache.release(job)


def _checkpoint(sent: Mapping[str, Any]) -> "DelayedSubmission":
    """Called by submitit where a signal interrupts `run_job`: what it is to run when the job is queued again."""
    from submitit.helpers import DelayedSubmission

    if _attempt is not None:
        _attempt.stop()
    return DelayedSubmission(run_job, sent)


run_job.checkpoint = _checkpoint  # type: ignore[attr-defined]
_attempt: "_Attempt | None" = None
"""What `run_job` is at, for the handler of a signal."""


class _Attempt:
    """The process of a job, from its begin to its end or to the signal."""

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
        """Let the process save and end, and record that."""
        if self._process is None:
            return
        self._process.interrupt()
        status = self._process.wait(SHARE_TO_SAVE * self.save_s)
        self.cache.end(self.job, complete=status == 0)

    def _start(self, log: Path) -> tuple[int, Process]:
        """Where its part of the log begins, and the process."""
        with _without_signal():
            self.cache.begin(self.job)
            with log.open("a", encoding="utf-8") as file:
                log_from = file.tell()
                self._process = process = Process(self.job, self._reports, file, {})
        return log_from, process

    def _goes_on(self) -> bool:
        """Take in a report; whether the process still runs."""
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
    """Keep the signal before the time limit back for a while; processes that are begun then never get it.

    Slurm sends it to every process of a job, and one that does not know it would die of it.
    """
    from submitit.core.job_environment import JobEnvironment

    numbers = [signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
