"""Records of which jobs are complete: one small file beside each job's folder.

A job is complete if its record says so, with the same fingerprint of everything its result depends on and with
unchanged defaults. An interrupted job keeps its folder and can continue; a job that has changed is run again.
"""

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from filelock import FileLock, Timeout

from perceptio.errors import DataError
from perceptio.experiments.job import Job
from perceptio.ops.json_files import read_json, write_json

Interval = tuple[float, float]
Status = Literal["complete", "failed", "stopped", "waiting"]
"""Status of a job: complete; failed, with an error; stopped, so that it can continue; or waiting, not begun."""


@attrs.frozen(kw_only=True)
class JobRecord:
    """The record of a job.

    Attributes:
        fingerprint: Its fingerprint when it was begun; None: it was not.
        defaults: Its `all_defaults` at that time.
        complete: Whether it has completed.
        intervals: Start and end of each attempt, in seconds since the epoch; the end is None if it was not recorded.
        error: The error of the last attempt, if it failed.
    """

    fingerprint: str | None = None
    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    complete: bool = False
    intervals: tuple[tuple[float, float | None], ...] = ()
    error: str = ""

    @property
    def status(self) -> Status:
        """The job's status."""
        if self.complete:
            return "complete"
        if self.error:
            return "failed"
        return "stopped" if self.intervals else "waiting"

    @property
    def seen(self) -> list[Interval]:
        """The attempts with a recorded end."""
        return [(start, end) for start, end in self.intervals if end is not None]


class JobCache:
    """The records of all jobs whose folders are in one folder.

    Args:
        root: That folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "jobs"
        self._claims: dict[str, FileLock] = {}

    def complete(self, job: Job) -> bool:
        """Return whether a job is complete and need not run."""
        record = self.record(job.name)
        same = record.fingerprint == job.fingerprint and not self.changed_defaults(job)
        return record.complete and same and job.out.exists()

    def changed_defaults(self, job: Job) -> list[str]:
        """Return the defaults that changed since the job was last begun, each as the end of a sentence.

        A setting that only one of the two declares does not count: its default keeps the earlier behavior.
        """
        return changed_defaults(self.record(job.name).defaults, job.all_defaults)

    def claim(self, job: Job) -> bool:
        """Claim a job for this process until `release` or its end; return False if another process has claimed it."""
        lock = self._claims.setdefault(job.name, FileLock(self.root / f".{job.name}.lock", timeout=0))
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            return False
        return True

    def release(self, job: Job) -> None:
        """Release a claimed job."""
        self._claims.pop(job.name).release()

    def begin(self, job: Job) -> None:
        """Record a job as begun; first remove what it made under another fingerprint.

        Raises:
            DataError: The job's folder holds something that no job wrote.
        """
        if self.record(job.name).fingerprint != job.fingerprint or self.changed_defaults(job):
            self.forget(job)
        attempts = (*self.record(job.name).intervals, (time.time(), None))
        self._write(
            job, JobRecord(fingerprint=job.fingerprint, defaults=job.all_defaults, intervals=attempts)
        )

    def end(self, job: Job, *, complete: bool, error: str = "") -> None:
        """Record that a job has completed, was stopped so that it can continue, or failed with an error."""
        record = self.record(job.name)
        *before, (start, _) = record.intervals
        self._write(
            job,
            attrs.evolve(record, intervals=(*before, (start, time.time())), complete=complete, error=error),
        )

    def forget(self, job: Job) -> None:
        """Remove what a job made.

        Raises:
            DataError: The job's folder holds something that no job wrote.
        """
        if job.out.exists() and not self._path(job.name).exists():
            raise DataError(
                f"{job.out} was written by no job of this command, so it is left as it is: move it away, or choose "
                "another --out."
            )
        if job.out.exists():
            shutil.rmtree(job.out)
        self._path(job.name).unlink(missing_ok=True)

    def intervals(self, jobs: Iterable[Job]) -> list[Interval]:
        """Return when any of these jobs ran, over all attempts with a recorded end."""
        return [interval for job in jobs for interval in self.record(job.name).seen]

    def log_of(self, job: Job) -> Path:
        """Return the file for a job's messages."""
        return self.root / f"{job.name}.log"

    def record(self, name: str) -> JobRecord:
        """Return the record of a job; an empty one, so that the job runs again, if there is no valid record."""
        try:
            held: dict[str, Any] = read_json(self._path(name))
            return JobRecord(**held | {"intervals": tuple((start, end) for start, end in held["intervals"])})
        except (DataError, TypeError, ValueError, KeyError):
            return JobRecord()

    def _path(self, name: str) -> Path:
        return self.root / f"{name}.json"

    def _write(self, job: Job, record: JobRecord) -> None:
        write_json(self._path(job.name), attrs.asdict(record))


def changed_defaults(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings whose default differs between two cells, each as the end of a sentence."""
    return [
        f"{path} was {before[path]!r} and is {value!r}"
        for path, value in now.items()
        if path in before and before[path] != value
    ]


def covered_seconds(intervals: Iterable[Interval]) -> float:
    """Return the number of seconds covered by at least one of the intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
