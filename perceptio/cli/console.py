"""How verbs speak: every text is shown as it is, and none is read as markup, whatever a path or an answer holds."""

import shlex
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Where a verb prints; its tables' cells and titles are plain text, too."""
    return Console(markup=False, emoji=False, highlight=False, stderr=stderr, width=width)


def say(where: Console, text: str, *, style: str | None = None) -> None:
    """Print a sentence, which only the terminal breaks into lines."""
    where.print(text, style=style, soft_wrap=True)


def progress(where: Console, *fields: str, transient: bool = False) -> Progress:
    """A bar for each task: its description, how much is done, the time left, and then fields of the task."""
    return Progress(
        plain("description"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *(plain(f"fields[{field}]") for field in fields),
        console=where,
        transient=transient,
    )


def plain(field: str) -> TextColumn:
    """A column with a field of a task as it is."""
    return TextColumn(f"{{task.{field}}}", markup=False)


def command(*words: Any) -> str:
    """A command of ours as a shell takes it, for a hint."""
    return shlex.join(["perceptio", *map(str, words)])


def again(option: str, values: Iterable[str] | None) -> list[str]:
    """An option of a command as often as it was given, to be said in a hint."""
    return [word for value in values or () for word in (option, value)]


def never_fail_to_print() -> None:
    """Show what a terminal's encoding lacks as escapes, so that nothing that was worked out is lost in printing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
