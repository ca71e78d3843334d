"""Which jobs may begin: the state that every launcher keeps about its jobs."""

from collections.abc import Container, Iterator, Sequence

from perceptio.experiments.display import Display
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache


class Schedule:
    """The state of jobs. The display is told about jobs that need not, or cannot, begin.

    Args:
        jobs: The jobs, in order.
        cache: Knows which jobs are complete.
        display: Receives the events.
    """

    def __init__(self, jobs: Sequence[Job], cache: JobCache, display: Display) -> None:
        self._jobs, self._cache, self._display = jobs, cache, display
        self._complete: set[str] = set()
        self._over: set[str] = set()
        """Jobs that ended without completing, and those that therefore cannot begin."""
        self._elsewhere: set[str] = set()
        for job in jobs:
            if cache.complete(job):
                self._reuse(job)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to begin or to wait for."""
        return len(self._complete) + len(self._over) == len(self._jobs)

    def ready(self, begun: Container[str]) -> Iterator[Job]:
        """Yield the jobs that may begin, in order.

        Args:
            begun: The names of those that have begun.
        """
        for job in self._jobs:
            if job.name in self._complete or job.name in self._over or job.name in begun:
                continue
            failed = next((before for before in job.after if before.name in self._over), None)
            if failed is not None:
                self._over.add(job.name)
                self._display.skipped(job, because=failed)
            elif all(before.name in self._complete for before in job.after):
                yield job

    def claim(self, job: Job) -> bool:
        """Claim a job for this process; return False if another process runs it or has completed it."""
        if not self._cache.claim(job):
            if job.name not in self._elsewhere:
                self._elsewhere.add(job.name)
                self._display.elsewhere(job)
            return False
        if self._cache.complete(job):  # Another process has just completed it.
            self._cache.release(job)
            self._reuse(job)
            return False
        return True

    def end(self, job: Job, *, complete: bool) -> None:
        """Record that a job has ended."""
        (self._complete if complete else self._over).add(job.name)

    def _reuse(self, job: Job) -> None:
        self._complete.add(job.name)
        self._display.reused(job)
