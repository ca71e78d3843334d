"""Runs jobs as processes, as many side by side as there are cores."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TextIO

from perceptio.demo.display import Display, title
from perceptio.demo.job_cache import JobCache
from perceptio.demo.jobs import Job
from perceptio.errors import PerceptioError, TrainingError
from perceptio.ops.interrupts import Stopped, interrupt_flag

LOOK_EVERY_S = 0.2
"""Seconds after which Ctrl-C is noticed at the latest."""
Reports = queue.Queue[tuple[str, Any]]
"""Holds pairs of a job's name and a report of its process; the last report is None."""
PATIENCE_S = 60.0
"""Seconds that interrupted jobs have for saving."""


class Process:
    """One job as a running process, whose reports go to a queue.

    It runs in a session of its own, so that Ctrl-C reaches it through `interrupt` alone, and in one thread, so that
    jobs side by side do not slow each other.
    """

    def __init__(self, job: Job, reports: Reports, log: TextIO) -> None:
        self.job, self._reports = job, reports
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "perceptio.demo.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._popen.stdin is not None
        request = {
            "work": job.work,
            "out": str(job.out),
            "settings": dict(job.settings),
            "inputs": {before.name: str(before.out) for before in job.after},
            "cores": job.cores,
        }
        with self._popen.stdin as stdin:
            stdin.write(json.dumps(request))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def interrupt(self) -> None:
        """Ask it to save and stop."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGINT)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; a process that does not end in time is killed."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            status = self._popen.wait()
        return status

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._reports.put((self.job.name, json.loads(line)))
        self._reports.put((self.job.name, None))


class Scheduler:
    """Runs what is not complete of some jobs.

    Args:
        jobs: In the order in which they are begun when they could all begin.
        cache: What is complete.
        cores: How many may be kept busy.
        display: Told what happens.
        start: Starts a job, with the queue for its reports and the file for its log.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        cache: JobCache,
        cores: int,
        display: Display,
        start: Callable[[Job, Reports, TextIO], Process] = Process,
    ) -> None:
        self.jobs, self.cache, self.cores, self.display, self.start = jobs, cache, cores, display, start
        self._complete: set[str] = set()
        self._processes: dict[str, Process] = {}
        self._errors: dict[str, str] = {}
        self._reports: Reports = queue.Queue()

    def run(self) -> None:
        """Run every job that is not complete.

        Raises:
            PerceptioError: A job failed; the others were stopped and go on where they were the next time.
            Stopped: After Ctrl-C or SIGTERM, when the jobs have saved what they had.
        """
        for job in self.jobs:
            if self.cache.complete(job):
                self._complete.add(job.name)
                self.display.reused(job.name)
        try:
            with interrupt_flag() as interrupted:
                while len(self._complete) < len(self.jobs):
                    if interrupted.is_set():
                        raise Stopped(interrupted.signal)
                    self._begin_ready()
                    with suppress(queue.Empty):
                        self._take(*self._reports.get(timeout=LOOK_EVERY_S))
        finally:
            # A second Ctrl-C reaches this, and ends the jobs at once.
            self._stop_all()

    def _begin_ready(self) -> None:
        for job in self.jobs:
            busy = sum(process.job.cores for process in self._processes.values())
            waiting = job.name not in self._complete and job.name not in self._processes
            ready = all(before.name in self._complete for before in job.after)
            if waiting and ready and busy + min(job.cores, self.cores) <= self.cores:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        self.cache.begin(job)
        with self.cache.log_of(job).open("a", encoding="utf-8") as log:
            self._processes[job.name] = self.start(job, self._reports, log)
        self.display.begun(job.name)

    def _take(self, name: str, report: dict[str, Any] | None) -> None:
        if report is None:
            self._end(name)
        elif "error" in report:
            self._errors[name] = report["error"]
        else:
            self.display.advanced(name, report["done"], report["total"], report["note"])

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        status = process.wait()
        self.cache.end(process.job, complete=status == 0)
        self.display.ended(name, complete=status == 0)
        if status == 0:
            self._complete.add(name)
            return
        log = self.cache.log_of(process.job)
        if name in self._errors:
            raise PerceptioError(f"{title(name)}: {self._errors[name]}")
        raise TrainingError(
            f"{title(name)} ended with status {status}; what happened is at the end of {log}."
        )

    def _stop_all(self) -> None:
        for process in self._processes.values():
            process.interrupt()
        try:
            for name, process in self._processes.items():
                complete = process.wait(PATIENCE_S) == 0
                self.cache.end(process.job, complete=complete)
                self.display.ended(name, complete=complete)
        finally:
            for process in self._processes.values():
                process.wait(0)
