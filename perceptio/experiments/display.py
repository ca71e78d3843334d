"""The display of running jobs: bars on a terminal, otherwise a line from time to time."""

import logging
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

import attrs
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from perceptio.experiments.job import Job

logger = logging.getLogger(__name__)

LINE_EVERY_S = 15.0
LONGEST_TITLE = 40
"""Maximum number of characters of a job's title beside its bar."""


class Display(Protocol):
    """Receives the events of jobs; used as a context manager around all of them."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reused(self, job: Job) -> None:
        """Report that a job was already complete."""

    def elsewhere(self, job: Job) -> None:
        """Report that another process runs a job, which this one waits for."""

    def queued(self, job: Job, number: str) -> None:
        """Report that a job waits in the queue of a cluster, under this number."""

    def skipped(self, job: Job, *, because: Job) -> None:
        """Report that a job cannot begin because a job that it depends on is not complete."""

    def begun(self, job: Job) -> None:
        """Report that a job has begun to run."""

    def advanced(self, job: Job, done: int, total: int, note: str) -> None:
        """Report the progress of a running job; `note` describes its state."""

    def ended(self, job: Job, *, complete: bool, error: str = "") -> None:
        """Report that a job has completed, was stopped, or failed with an error."""


@attrs.define
class Pace:
    """The speed of a job from its first report on, without preparation and earlier attempts."""

    begun: float = attrs.field(factory=lambda: time.monotonic())
    first: tuple[float, int] | None = None
    done: int = 0
    total: int = 0

    def update(self, done: int, total: int) -> None:
        """Record a report."""
        self.done, self.total = done, total
        if self.first is None or done <= self.first[1]:
            self.first = (time.monotonic(), done)

    @property
    def seconds(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self.begun

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end at the speed so far; None before it is known."""
        if self.first is None or self.done <= self.first[1]:
            return None
        since, done = time.monotonic() - self.first[0], self.done - self.first[1]
        return since / done * (self.total - self.done)


def clock(seconds: float | None) -> str:
    """Format minutes and seconds as `2:05`; `-:--` for None."""
    if seconds is None:
        return "-:--"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Lines:
    """Prints a line when a job begins and ends, and from time to time in between.

    Args:
        say: Receives each line; by default the log.
        every_s: Seconds between two lines about the same job.
    """

    def __init__(self, say: Callable[[str], None] = logger.info, every_s: float = LINE_EVERY_S) -> None:
        self.say, self.every_s = say, every_s
        self._paces: dict[str, Pace] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def reused(self, job: Job) -> None:
        """See `Display.reused`."""
        self.say(f"{job.title}: complete, reused")

    def elsewhere(self, job: Job) -> None:
        """See `Display.elsewhere`."""
        self.say(f"{job.title}: another process is at it, waiting")

    def queued(self, job: Job, number: str) -> None:
        """See `Display.queued`."""
        self.say(f"{job.title}: in the queue as {number}")

    def skipped(self, job: Job, *, because: Job) -> None:
        """See `Display.skipped`."""
        self.say(f"{job.title}: not begun, since {because.title} is not complete")

    def begun(self, job: Job) -> None:
        """See `Display.begun`."""
        self._paces[job.name], self._said[job.name] = Pace(), time.monotonic()
        self.say(f"{job.title}: begins")

    def advanced(self, job: Job, done: int, total: int, note: str) -> None:
        """See `Display.advanced`."""
        pace = self._paces[job.name]
        pace.update(done, total)
        if time.monotonic() - self._said[job.name] < self.every_s:
            return
        self._said[job.name] = time.monotonic()
        more = f" · {note}" if note else ""
        self.say(f"{job.title}: {done} of {total}, {clock(pace.seconds_left)} left{more}")

    def ended(self, job: Job, *, complete: bool, error: str = "") -> None:
        """See `Display.ended`."""
        how = "complete" if complete else "failed" if error else "stopped"
        last_words = f": {error}" if error else ""
        self.say(f"{job.title}: {how} after {clock(self._paces[job.name].seconds)}{last_words}")


class _Times(ProgressColumn):
    """Elapsed time and, while a job runs, the estimated time left."""

    def render(self, task: Task) -> Text:
        pace: Pace | None = task.fields["pace"]
        if pace is None:
            return Text("")
        if task.finished_time is not None or task.stop_time is not None:
            return Text(clock(task.fields["took"]), style="dim")
        return Text(f"{clock(pace.seconds)} · {clock(pace.seconds_left)} left", style="cyan")


class _Note(ProgressColumn):
    """The state of a job, truncated to fit the line."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")


def _whole(max_width: int | None = None) -> Column:
    """Return a column that is not shrunk in favor of others."""
    return Column(no_wrap=True, overflow="ellipsis", max_width=max_width)


class _Progress(Progress):
    """Bars, with something above them."""

    above: Callable[[], RenderableType] | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        if self.above is not None:
            yield self.above()
        yield from super().get_renderables()


class Bars:
    """Shows a bar for every job.

    Args:
        console: The console to draw on.
        above: Returns what to show above the bars at every refresh; if given, bars of finished jobs are removed.
    """

    def __init__(self, console: Console, above: Callable[[], RenderableType] | None = None) -> None:
        self._progress = _Progress(
            SpinnerColumn(finished_text=Text("✓", style="green")),
            TextColumn("{task.description}", markup=False, table_column=_whole(max_width=LONGEST_TITLE)),
            BarColumn(bar_width=20, table_column=_whole()),
            MofNCompleteColumn(table_column=_whole()),
            _Times(table_column=_whole()),
            _Note(),
            console=console,
            refresh_per_second=4,
            transient=above is not None,
        )
        self._progress.above = above
        self._tasks: dict[str, tuple[TaskID, Pace]] = {}
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def reused(self, job: Job) -> None:
        """See `Display.reused`."""
        self._progress.update(self._add(job, "complete, reused", total=1), completed=1)

    def elsewhere(self, job: Job) -> None:
        """See `Display.elsewhere`."""
        self._add(job, "another process is at it, waiting", total=1)

    def queued(self, job: Job, number: str) -> None:
        """See `Display.queued`."""
        self._add(job, f"in the queue as {number}", total=1)

    def skipped(self, job: Job, *, because: Job) -> None:
        """See `Display.skipped`."""
        self._progress.stop_task(self._add(job, f"not begun, since {because.title} is not complete", total=1))

    def begun(self, job: Job) -> None:
        """See `Display.begun`."""
        pace = Pace()
        self._tasks[job.name] = (self._add(job, "starting", pace=pace), pace)

    def _add(self, job: Job, note: str, *, total: int | None = None, pace: Pace | None = None) -> TaskID:
        """Add a bar for a job, replacing its earlier one."""
        if job.name in self._bars:
            self._progress.remove_task(self._bars[job.name])
        self._bars[job.name] = self._progress.add_task(job.title, total=total, note=note, pace=pace, took=0.0)
        return self._bars[job.name]

    def advanced(self, job: Job, done: int, total: int, note: str) -> None:
        """See `Display.advanced`."""
        task, pace = self._tasks[job.name]
        pace.update(done, total)
        # A job is complete when its process has ended, not when its last step is done.
        self._progress.update(task, completed=min(done, total - 1e-3), total=total, note=note)

    def ended(self, job: Job, *, complete: bool, error: str = "") -> None:
        """See `Display.ended`."""
        task, pace = self._tasks[job.name]
        self._progress.update(task, took=pace.seconds, note="" if complete else error or "stopped")
        if complete:
            total = pace.total or 1
            self._progress.update(task, completed=total, total=total)
        self._progress.stop_task(task)
        if self._progress.above is not None:
            self._progress.remove_task(self._bars.pop(job.name))
