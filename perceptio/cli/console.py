"""Terminal output of the verbs: all text is shown as it is; paths and answers are never parsed as markup."""

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
"""Seconds between two progress lines of a task, if the output is not a terminal."""
WIDTH_OF_LOGS = 120
"""Characters in a line of a table, if the output is not a terminal."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return the console that a verb prints to; cells and titles of tables are plain text, too."""
    return Console(markup=False, emoji=False, highlight=False, stderr=stderr, width=width)


def say(where: Console, text: str, *, style: str | None = None) -> None:
    """Print a sentence and let the terminal wrap it; control characters in the text are escaped."""
    where.print(_visible(text), style=style, soft_wrap=True)


def _visible(text: str) -> str:
    """Escape control characters as Python does, except line ends and tabs."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def console_of_jobs() -> Console:
    """Return the console of a verb that runs jobs: the terminal's own width, or `WIDTH_OF_LOGS` for a log."""
    shown = console()
    return shown if shown.is_terminal else console(width=WIDTH_OF_LOGS)


def say_when(where: Console, text: str) -> None:
    """Print a sentence after the time of day."""
    say(where, f"{datetime.now():%H:%M:%S}  {text}")


class Bars(Progress):
    """Progress of tasks: on a terminal a bar for each, with their notes below; otherwise a line from time to time.

    A task's `note` describes its state. It has a line of its own, which a narrow terminal wraps.

    Args:
        where: The console to show them on.
        transient: Whether to remove the bars at the end.
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
        self._due: dict[TaskID, float] = {}  # When the next line of each task is due, in seconds.

    def get_renderables(self) -> Iterator[RenderableType]:
        """Return the bars, then the notes."""
        yield from super().get_renderables()
        yield from (Text(note) for task in self.tasks if (note := task.fields.get("note")))

    def counting(self, description: str) -> Callable[[int, int | None], None]:
        """Add a task; return a function to call with how much is done and the total, which is None if unknown."""
        task = self.add_task(description, total=None)
        return lambda done, total: self.update(task, completed=done, total=total)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See `rich.progress.Progress.update`; without a terminal, print a line if one is due."""
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
    """Return a `perceptio` command for a hint, quoted for a shell, with the `--plugin` files of this process."""
    listed = os.environ.get("PERCEPTIO_PLUGIN_FILES", "")  # A JSON list, if `--plugin` wrote it.
    plugins = json.loads(listed) if listed.startswith("[") else ()
    return shlex.join(["perceptio", *again("--plugin", plugins), *map(str, words)])


def again(option: str, values: Iterable[str] | None) -> list[str]:
    """Return the words that repeat an option for each of its values, for a hint."""
    return [word for value in values or () for word in (option, value)]


def never_fail_to_print() -> None:
    """Escape characters that the terminal's encoding lacks, so that printing never fails and loses results."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
