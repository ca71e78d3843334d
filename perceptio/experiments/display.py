"""What one sees while jobs run: a bar each on a terminal, a line now and then elsewhere."""

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
"""Characters of a job's title beside its bar."""


class Display(Protocol):
    """Told what jobs do; used as a context manager around all of them."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reused(self, job: Job) -> None:
        """A job was complete before."""

    def elsewhere(self, job: Job) -> None:
        """Another process is at a job, and is waited for."""

    def queued(self, job: Job, number: str) -> None:
        """A job waits in the queue of a cluster, under this number."""

    def skipped(self, job: Job, *, because: Job) -> None:
        """A job cannot begin, because one that it comes after is not complete."""

    def begun(self, job: Job) -> None:
        """A job runs."""

    def advanced(self, job: Job, done: int, total: int, note: str) -> None:
        """A running job has done so much; `note` says how it stands."""

    def ended(self, job: Job, *, complete: bool, error: str = "") -> None:
        """A job has ended: well, or stopped, or failed with these last words."""


@attrs.define
class Pace:
    """How fast a job goes from where it starts to advance: an earlier attempt and preparing do not count."""

    begun: float = attrs.field(factory=lambda: time.monotonic())
    first: tuple[float, int] | None = None
    done: int = 0
    total: int = 0

    def update(self, done: int, total: int) -> None:
        """Take in a report."""
        self.done, self.total = done, total
        if self.first is None or done <= self.first[1]:
            self.first = (time.monotonic(), done)

    @property
    def seconds(self) -> float:
        """Since the job began."""
        return time.monotonic() - self.begun

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is one."""
        if self.first is None or self.done <= self.first[1]:
            return None
        since, done = time.monotonic() - self.first[0], self.done - self.first[1]
        return since / done * (self.total - self.done)


def clock(seconds: float | None) -> str:
    """Minutes and seconds as `2:05`; `-:--` for None."""
    if seconds is None:
        return "-:--"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Lines:
    """A line when a job begins and ends, and one every so often between.

    Args:
        say: What becomes of a line; the log by default.
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
    """Time taken and, while a job runs, time left."""

    def render(self, task: Task) -> Text:
        pace: Pace | None = task.fields["pace"]
        if pace is None:
            return Text("")
        if task.finished_time is not None or task.stop_time is not None:
            return Text(clock(task.fields["took"]), style="dim")
        return Text(f"{clock(pace.seconds)} · {clock(pace.seconds_left)} left", style="cyan")


class _Note(ProgressColumn):
    """How a job stands, as far as the line has room for it."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")


def _whole(max_width: int | None = None) -> Column:
    """A column that gives no room to others."""
    return Column(no_wrap=True, overflow="ellipsis", max_width=max_width)


class _Progress(Progress):
    """Bars, and something above them."""

    above: Callable[[], RenderableType] | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        if self.above is not None:
            yield self.above()
        yield from super().get_renderables()


class Bars:
    """A bar for every job.

    Args:
        console: Where they are drawn.
        above: What is shown above them, drawn again whenever they are; then a job's bar goes when it ends.
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
        """A job's bar, in place of the one it had."""
        if job.name in self._bars:
            self._progress.remove_task(self._bars[job.name])
        self._bars[job.name] = self._progress.add_task(job.title, total=total, note=note, pace=pace, took=0.0)
        return self._bars[job.name]

    def advanced(self, job: Job, done: int, total: int, note: str) -> None:
        """See `Display.advanced`."""
        task, pace = self._tasks[job.name]
        pace.update(done, total)
        # A job is through when its process has ended, not when its last step is done.
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
