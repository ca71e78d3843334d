"""What is complete already: one small record beside each job's folder.

A job is complete when its record says so under the fingerprint of its settings and of everything it was made from.
A job that was cut short keeps its folder, so that it can go on where it stopped; a job whose settings have changed is
made again.
"""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from perceptio.demo.jobs import Job
from perceptio.errors import DataError
from perceptio.ops.json_files import read_json, write_json

Interval = tuple[float, float]


class JobCache:
    """The records of a demo's folder.

    Args:
        root: The demo's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "jobs"

    def complete(self, job: Job) -> bool:
        """Whether a job need not run."""
        record = self._read(job)
        return bool(record["complete"]) and record["fingerprint"] == job.fingerprint and job.out.exists()

    def begin(self, job: Job) -> None:
        """Record a job as begun; what it made under other settings is removed first.

        Raises:
            DataError: The job's folder holds something that no demo wrote.
        """
        if self._read(job)["fingerprint"] != job.fingerprint:
            self.forget(job)
        record = self._read(job)
        attempts = [*record["intervals"], [time.time(), None]]
        self._write(job, {"fingerprint": job.fingerprint, "complete": False, "intervals": attempts})

    def end(self, job: Job, *, complete: bool) -> None:
        """Record that a job has ended, well or not."""
        record = self._read(job)
        record["intervals"][-1][1] = time.time()
        self._write(job, record | {"complete": complete})

    def forget(self, job: Job) -> None:
        """Remove what a job made.

        Raises:
            DataError: The job's folder holds something that no demo wrote.
        """
        if job.out.exists() and not self._path(job).exists():
            raise DataError(
                f"{job.out} was not written by a demo, so it is left as it is: move it away, or choose another --out."
            )
        if job.out.exists():
            shutil.rmtree(job.out)
        self._path(job).unlink(missing_ok=True)

    def intervals(self, jobs: Iterable[Job]) -> list[Interval]:
        """When any of these jobs ran, over all attempts whose end was seen."""
        attempts = [attempt for job in jobs for attempt in self._read(job)["intervals"]]
        return [(start, end) for start, end in attempts if end is not None]

    def log_of(self, job: Job) -> Path:
        """The file that a job's messages go to."""
        return self.root / f"{job.name}.log"

    def _path(self, job: Job) -> Path:
        return self.root / f"{job.name}.json"

    def _read(self, job: Job) -> dict[str, Any]:
        nothing: dict[str, Any] = {"fingerprint": None, "complete": False, "intervals": []}
        try:
            return nothing | read_json(self._path(job))
        except (DataError, TypeError):  # A record that is no record: the job is made again.
            return nothing

    def _write(self, job: Job, record: dict[str, Any]) -> None:
        write_json(self._path(job), record)


def covered_seconds(intervals: Iterable[Interval]) -> float:
    """Seconds that lie in at least one of the intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
