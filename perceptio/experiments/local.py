"""Runs jobs as processes on this machine, in parallel on all cores or GPUs."""

import queue
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import attrs

from perceptio.errors import PerceptioError, TrainingError
from perceptio.experiments.display import Display
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.process import Process, Reports, usable_cores, visible_gpus
from perceptio.experiments.schedule import Schedule
from perceptio.experiments.worker import INTERRUPTED
from perceptio.ops.interrupts import Stopped, interrupt_flag

LOOK_EVERY_S = 0.2
"""Maximum delay in seconds before Ctrl-C is noticed."""
PATIENCE_S = 60.0
"""Seconds that interrupted jobs have to save."""
LONGEST_WORDS = 300
"""Maximum number of characters quoted from the last line of a log."""
ROUNDING = 1e-6
"""Tolerance for the sum of the jobs' shares of cores."""


@attrs.define(eq=False)
class Running:
    """A running job.

    Attributes:
        process: Its process.
        gpu: The GPU reserved for it, as in CUDA_VISIBLE_DEVICES.
        log_from: Offset of its part of the log, in bytes.
        begun: Start time, in seconds of the monotonic clock.
        ended: When it was told to end because it exceeded the time limit.
        error: The error it reported that a user can fix.
    """

    process: Process
    gpu: str | None
    log_from: int
    begun: float = attrs.field(factory=lambda: time.monotonic())
    ended: float | None = None
    error: str = ""


Start = Callable[[Job, Reports, TextIO, dict[str, str]], Process]


class LocalLauncher:
    """Runs jobs in parallel, each on cores of its own, and on a GPU of its own if there are any.

    Args:
        cores: Number of cores to use; None: one per GPU, or all cores of a machine without GPUs.
        timeout_s: Seconds after which a job is ended and counts as failed; None: never.
        stop_on_failure: Whether to stop the other jobs when one fails.
        gpus: The GPUs, as in CUDA_VISIBLE_DEVICES; None: those that torch sees.
        start: Starts a job, given the queue for its reports, the file for its log, and environment variables.
    """

    def __init__(
        self,
        *,
        cores: int | None = None,
        timeout_s: float | None = None,
        stop_on_failure: bool = False,
        gpus: Sequence[str] | None = None,
        start: Start = Process,
    ) -> None:
        self.gpus = tuple(visible_gpus() if gpus is None else gpus)
        self.cores = cores or len(self.gpus) or usable_cores()
        self.timeout_s, self.stop_on_failure, self.start = timeout_s, stop_on_failure, start

    def run(self, jobs: Sequence[Job], cache: JobCache, display: Display) -> None:
        """See `perceptio.interfaces.launcher.Launcher`."""
        _Run(self, jobs, cache, display).run()


class _Run:
    """One call of `LocalLauncher.run`."""

    def __init__(
        self, launcher: LocalLauncher, jobs: Sequence[Job], cache: JobCache, display: Display
    ) -> None:
        self.launcher, self.cache, self.display = launcher, cache, display
        self._schedule = Schedule(jobs, cache, display)
        self._running: dict[str, Running] = {}
        self._reports: Reports = queue.Queue()

    def run(self) -> None:
        try:
            with interrupt_flag() as interrupted:
                while not self._schedule.finished:
                    if interrupted.is_set():
                        raise Stopped(interrupted.signal)
                    self._begin_ready()
                    with suppress(queue.Empty):
                        self._take(*self._reports.get(timeout=LOOK_EVERY_S))
                    self._end_overdue()
        finally:
            # A second Ctrl-C arrives here, and ends the jobs at once.
            self._stop_all()

    def _begin_ready(self) -> None:
        cores = self.launcher.cores
        for job in self._schedule.ready(self._running):
            busy = sum(running.process.job.cores for running in self._running.values())
            if busy + min(job.cores, cores) <= cores + ROUNDING and self._schedule.claim(job):
                self._begin(job)

    def _begin(self, job: Job) -> None:
        self.cache.begin(job)
        used = [running.gpu for running in self._running.values()]
        gpu = min(self.launcher.gpus, key=used.count, default=None)
        threads = 1 if gpu is None else max(1, usable_cores() // self.launcher.cores)
        environment = {"OMP_NUM_THREADS": str(threads)}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        with self.cache.log_of(job).open("a", encoding="utf-8") as log:
            begins = log.tell()
            process = self.launcher.start(job, self._reports, log, environment)
        self._running[job.name] = Running(process, gpu, begins)
        self.display.begun(job)

    def _take(self, name: str, report: dict[str, Any] | None) -> None:
        running = self._running.get(name)
        if running is None:
            return
        if report is None:
            self._end(running)
        elif "error" in report:
            running.error = report["error"]
        else:
            self.display.advanced(running.process.job, report["done"], report["total"], report["note"])

    def _end_overdue(self) -> None:
        """Tell jobs that exceed the time limit to end, and kill those that were told and did not."""
        now, timeout = time.monotonic(), self.launcher.timeout_s
        for running in self._running.values():
            if running.ended is not None and now > running.ended + PATIENCE_S:
                running.process.kill()
            elif running.ended is None and timeout is not None and now > running.begun + timeout:
                running.ended = now
                running.process.interrupt()

    def _end(self, running: Running) -> None:
        job = running.process.job
        del self._running[job.name]
        status = running.process.wait()
        error = self._last_words(running, status)
        self._record(job, complete=status == 0, error=error)
        self._schedule.end(job, complete=status == 0)
        if status == 0 or not self.launcher.stop_on_failure:
            return
        if running.error:
            raise PerceptioError(f"{job.title}: {running.error}")
        raise TrainingError(
            f"{job.title} {error or 'was stopped from outside; run the command again to go on.'}"
        )

    def _last_words(self, running: Running, status: int) -> str:
        return last_words(
            status,
            said=running.error,
            log=self.cache.log_of(running.process.job),
            log_from=running.log_from,
            timeout_s=None if running.ended is None else self.launcher.timeout_s,
        )

    def _record(self, job: Job, *, complete: bool, error: str = "") -> None:
        self.cache.end(job, complete=complete, error=error)
        self.cache.release(job)
        self.display.ended(job, complete=complete, error=error)

    def _stop_all(self) -> None:
        for running in self._running.values():
            running.process.interrupt()
        try:
            for running in self._running.values():
                complete = running.process.wait(PATIENCE_S) == 0
                self._record(running.process.job, complete=complete)
        finally:
            for running in self._running.values():
                running.process.wait(0)


def last_words(status: int, *, said: str, log: Path, log_from: int, timeout_s: float | None) -> str:
    """Return why a job's process has failed; an empty string if it has not, or was asked to stop.

    Args:
        status: Its exit status, negative if it died of a signal.
        said: The error it reported that a user can fix.
        log: Its log.
        log_from: Offset of its part of the log, in bytes.
        timeout_s: The time limit in seconds, if it was ended for exceeding it.
    """
    if status == 0:
        return ""
    if said:
        return said
    if timeout_s is not None:
        return f"took more than {timeout_s / 60:g} minutes (--timeout) and was ended; see {log}."
    if status == INTERRUPTED:
        return ""
    if status == -signal.SIGKILL:
        return (
            "was killed (SIGKILL), as a system does that runs out of memory: run fewer --jobs side by side, or "
            "make the recipe smaller."
        )
    how = f"ended with status {status}"
    if status < 0:
        how = f"died of the signal {signal.Signals(-status).name}"
    line = _last_line(log.read_bytes()[log_from:] if log.exists() else b"")
    return f"{how}{f' ({line})' if line else ''}; what happened is at the end of {log}."


def _last_line(log: bytes) -> str:
    lines = [line for line in log.decode("utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    return last if len(last) <= LONGEST_WORDS else f"{last[:LONGEST_WORDS]}…"
