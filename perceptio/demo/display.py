"""What one sees while jobs run: a bar each on a terminal, a line now and then elsewhere."""

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import attrs
from rich.console import Console
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
from rich.text import Text

logger = logging.getLogger(__name__)

LINE_EVERY_S = 15.0


class Display(Protocol):
    """Told what jobs do; used as a context manager around all of them."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def reused(self, job: str) -> None:
        """A job was complete before."""

    def begun(self, job: str) -> None:
        """A job runs."""

    def advanced(self, job: str, done: int, total: int, note: str) -> None:
        """A running job has done so much; `note` says how it stands."""

    def ended(self, job: str, *, complete: bool) -> None:
        """A job has ended, well or not."""


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


def title(job: str) -> str:
    """A job's name as it is shown."""
    return job.replace("_", " ")


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

    def reused(self, job: str) -> None:
        """See `Display.reused`."""
        self.say(f"{title(job)}: complete, reused")

    def begun(self, job: str) -> None:
        """See `Display.begun`."""
        self._paces[job], self._said[job] = Pace(), time.monotonic()
        self.say(f"{title(job)}: begins")

    def advanced(self, job: str, done: int, total: int, note: str) -> None:
        """See `Display.advanced`."""
        pace = self._paces[job]
        pace.update(done, total)
        if time.monotonic() - self._said[job] < self.every_s:
            return
        self._said[job] = time.monotonic()
        more = f" · {note}" if note else ""
        self.say(f"{title(job)}: {done} of {total}, {clock(pace.seconds_left)} left{more}")

    def ended(self, job: str, *, complete: bool) -> None:
        """See `Display.ended`."""
        how = "complete" if complete else "stopped"
        self.say(f"{title(job)}: {how} after {clock(self._paces[job].seconds)}")


class _Times(ProgressColumn):
    """Time taken and, while a job runs, time left."""

    def render(self, task: Task) -> Text:
        pace: Pace | None = task.fields["pace"]
        if pace is None:
            return Text("")
        if task.finished_time is not None or task.stop_time is not None:
            return Text(clock(task.fields["took"]), style="dim")
        return Text(f"{clock(pace.seconds)} · {clock(pace.seconds_left)} left", style="cyan")


class Bars:
    """A bar for every job.

    Args:
        console: Where they are drawn.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=Text("✓", style="green")),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Times(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            refresh_per_second=4,
        )
        self._tasks: dict[str, tuple[TaskID, Pace]] = {}

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def reused(self, job: str) -> None:
        """See `Display.reused`."""
        task = self._progress.add_task(title(job), total=1, note="complete, reused", pace=None, took=0.0)
        self._progress.update(task, completed=1)

    def begun(self, job: str) -> None:
        """See `Display.begun`."""
        pace = Pace()
        task = self._progress.add_task(title(job), total=None, note="starting", pace=pace, took=0.0)
        self._tasks[job] = (task, pace)

    def advanced(self, job: str, done: int, total: int, note: str) -> None:
        """See `Display.advanced`."""
        task, pace = self._tasks[job]
        pace.update(done, total)
        # A job is through when its process has ended, not when its last step is done.
        self._progress.update(task, completed=min(done, total - 1e-3), total=total, note=note)

    def ended(self, job: str, *, complete: bool) -> None:
        """See `Display.ended`."""
        task, pace = self._tasks[job]
        self._progress.update(task, took=pace.seconds, note="" if complete else "stopped")
        if complete:
            total = pace.total or 1
            self._progress.update(task, completed=total, total=total)
        self._progress.stop_task(task)
