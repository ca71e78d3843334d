"""How verbs speak: every text is shown as it is, and none is read as markup, whatever a path or an answer holds."""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from math import inf
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_EVERY_S = 15.0
"""Seconds between two lines about a task where there is no terminal."""
WIDTH_OF_LOGS = 120
"""Characters a line of a table where there is no terminal to ask."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Where a verb prints; its tables' cells and titles are plain text, too."""
    return Console(markup=False, emoji=False, highlight=False, stderr=stderr, width=width)


def say(where: Console, text: str, *, style: str | None = None) -> None:
    """Print a sentence, which only the terminal breaks into lines; a model's control characters do not reach it."""
    where.print(_visible(text), style=style, soft_wrap=True)


def _visible(text: str) -> str:
    """A text with its control characters as Python writes them, but for line ends and tabs."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def console_of_jobs() -> Console:
    """Where a verb that runs jobs prints: a terminal as wide as it is, or a log."""
    shown = console()
    return shown if shown.is_terminal else console(width=WIDTH_OF_LOGS)


def say_when(where: Console, text: str) -> None:
    """Print a sentence after the time of day."""
    say(where, f"{datetime.now():%H:%M:%S}  {text}")


class Bars(Progress):
    """How far tasks are: on a terminal a bar each, and below them their notes; elsewhere a line now and then.

    A task's `note` says how it stands. It has a line of its own, which a narrow terminal breaks.

    Args:
        where: Where they are shown.
        transient: Whether nothing of them is left at the end.
    """

    def __init__(self, where: Console, *, transient: bool = False) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=where,
            transient=transient,
            disable=not where.is_terminal,
        )
        self._transient = transient
        self._due: dict[TaskID, float] = {}  # When each has its next line, in seconds.

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars, and the notes below."""
        yield from super().get_renderables()
        yield from (Text(note) for task in self.tasks if (note := task.fields.get("note")))

    def counting(self, description: str) -> Callable[[int, int | None], None]:
        """Add a task; what is returned is called with how much of it is done, and of how much, if that is known."""
        task = self.add_task(description, total=None)
        return lambda done, total: self.update(task, completed=done, total=total)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See `rich.progress.Progress.update`; where there is no terminal, may print a line."""
        super().update(task_id, **changes)
        if not self.disable:
            return
        task, now = self._tasks[task_id], time.monotonic()
        due = self._due.setdefault(task_id, now + LINE_EVERY_S)
        complete = task.finished and not self._transient
        if now >= due or (complete and due < inf):
            self._due[task_id] = inf if complete else now + LINE_EVERY_S
            say(self.console, _line(task))


def _line(task: Task) -> str:
    done = f"{task.completed:g}" if task.total is None else f"{task.completed:g} of {task.total:g}"
    seconds = task.time_remaining
    left = "" if seconds is None or task.finished else f", {timedelta(seconds=int(seconds))} left"
    note = task.fields.get("note")
    return f"{task.description}: {done}{left}" + (f" · {note}" if note else "")


def command(*words: Any) -> str:
    """A command of ours as a shell takes it, for a hint, with the plugin files that this one was given."""
    listed = os.environ.get("PERCEPTIO_PLUGIN_FILES", "")  # A JSON list, where `--plugin` wrote it.
    plugins = json.loads(listed) if listed.startswith("[") else ()
    return shlex.join(["perceptio", *again("--plugin", plugins), *map(str, words)])


def again(option: str, values: Iterable[str] | None) -> list[str]:
    """An option of a command as often as it was given, to be said in a hint."""
    return [word for value in values or () for word in (option, value)]


def never_fail_to_print() -> None:
    """Show what a terminal's encoding lacks as escapes, so that nothing that was worked out is lost in printing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
