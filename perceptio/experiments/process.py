"""A job as a running process on this machine, and the cores and GPUs available for jobs."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, TextIO

from perceptio.experiments.job import Job

Reports = queue.Queue[tuple[str, Any]]
"""Holds pairs of a job's name and a report of its process; the last report of a job is None."""


class Process:
    """One job as a running process, whose reports go to a queue.

    It runs in a session of its own, so that Ctrl-C reaches it only through `interrupt`. On a CPU it runs in one
    thread, so that parallel jobs do not slow each other down and a job gives the same numbers on every machine.
    """

    def __init__(self, job: Job, reports: Reports, log: TextIO, environment: dict[str, str]) -> None:
        self.job, self._reports = job, reports
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "perceptio.experiments.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        assert self._popen.stdin is not None
        with suppress(BrokenPipeError), self._popen.stdin as stdin:  # It may be killed before it reads.
            stdin.write(json.dumps(job.request))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def interrupt(self) -> None:
        """Tell the process to save and stop."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End the process at once, and every process that it has started."""
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, negative if it died of a signal; kill the process if it does not end in time."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._popen.wait()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            with suppress(ValueError):  # One that is killed may leave half a line.
                self._reports.put((self.job.name, json.loads(line)))
        self._reports.put((self.job.name, None))


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]
