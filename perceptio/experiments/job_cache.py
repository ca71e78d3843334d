"""What is complete already: one small record beside each job's folder.

A job is complete when its record says so under the fingerprint of everything that its result depends on, and no
default has another value now. A job that was cut short keeps its folder, so that it can go on where it stopped; a job
that has changed is made again.
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
"""Of a job: complete; failed, with its last words; begun and stopped, so that it goes on; or not begun."""


@attrs.frozen(kw_only=True)
class JobRecord:
    """What is known of a job.

    Attributes:
        fingerprint: Under which it was begun; None: it was not.
        defaults: Its `all_defaults` then.
        complete: Whether it has ended well.
        intervals: When it ran, in seconds since the epoch, a pair for each attempt; None: the end was not seen.
        error: The last words of an attempt that failed, if it was the last.
    """

    fingerprint: str | None = None
    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    complete: bool = False
    intervals: tuple[tuple[float, float | None], ...] = ()
    error: str = ""

    @property
    def status(self) -> Status:
        """How it stands."""
        if self.complete:
            return "complete"
        if self.error:
            return "failed"
        return "stopped" if self.intervals else "waiting"

    @property
    def seen(self) -> list[Interval]:
        """The attempts whose end was seen."""
        return [(start, end) for start, end in self.intervals if end is not None]


class JobCache:
    """The records of the jobs whose folders lie in one folder.

    Args:
        root: That folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "jobs"
        self._claims: dict[str, FileLock] = {}

    def complete(self, job: Job) -> bool:
        """Whether a job need not run."""
        record = self.record(job.name)
        same = record.fingerprint == job.fingerprint and not self.changed_defaults(job)
        return record.complete and same and job.out.exists()

    def changed_defaults(self, job: Job) -> list[str]:
        """The defaults that are others than when the job was last begun, each as the end of a sentence.

        A setting that one of the two does not know is none: it is left at what means "as before".
        """
        return changed_defaults(self.record(job.name).defaults, job.all_defaults)

    def claim(self, job: Job) -> bool:
        """Whether a job is this process's from now on, until `release` or its end; no other process has it then."""
        lock = self._claims.setdefault(job.name, FileLock(self.root / f".{job.name}.lock", timeout=0))
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            return False
        return True

    def release(self, job: Job) -> None:
        """Give a job free that was claimed."""
        self._claims.pop(job.name).release()

    def begin(self, job: Job) -> None:
        """Record a job as begun; what it made under another fingerprint is removed first.

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
        """Record that a job has ended: well, or stopped so that it can go on, or failed with these last words."""
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
        """When any of these jobs ran, over all attempts whose end was seen."""
        return [interval for job in jobs for interval in self.record(job.name).seen]

    def log_of(self, job: Job) -> Path:
        """The file that a job's messages go to."""
        return self.root / f"{job.name}.log"

    def record(self, name: str) -> JobRecord:
        """What is known of the job of a name; of one whose record is none, nothing: it is made again."""
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
    """The settings of which two cells know other defaults, each as the end of a sentence."""
    return [
        f"{path} was {before[path]!r} and is {value!r}"
        for path, value in now.items()
        if path in before and before[path] != value
    ]


def covered_seconds(intervals: Iterable[Interval]) -> float:
    """Seconds that lie in at least one of the intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
