"""What one sees while an experiment runs: how far its cells are, the time left, and a table that fills."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
from rich.console import Console
from rich.table import Table

from perceptio.experiments.cell_summary import CellSummary
from perceptio.experiments.display import Bars, Display, Lines, Pace, clock
from perceptio.experiments.figures import Figure, chosen, flat
from perceptio.experiments.job import Job
from perceptio.experiments.plan import Cell
from perceptio.experiments.results import CellResult, read_cell

ROWS_LEFT = 12
"""Rows of a terminal that the table leaves to the bars below it."""


@attrs.define
class TimeLeft:
    """How long jobs will take, from those that ended, and from those that run where none of their kind has.

    Attributes:
        jobs: All that are to be run.
    """

    jobs: Sequence[Job]
    _paces: dict[str, Pace] = attrs.field(factory=dict, init=False)
    _over: set[str] = attrs.field(factory=set, init=False)
    _took: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list), init=False)
    _at_once: int = attrs.field(default=1, init=False)

    def begun(self, job: Job) -> None:
        """Take in that a job runs."""
        self._paces[job.name] = Pace()
        self._at_once = max(self._at_once, len(self._paces))

    def advanced(self, job: Job, done: int, total: int) -> None:
        """Take in how far it is."""
        self._paces[job.name].update(done, total)

    def over(self, job: Job, *, complete: bool = False) -> None:
        """Take in that a job need not be waited for any more; `complete`: because it has run."""
        pace = self._paces.pop(job.name, None)
        if pace is not None and complete:
            self._took[job.stage].append(pace.seconds)
        self._over.add(job.name)

    @property
    def seconds(self) -> float | None:
        """Of all that is left, at as many side by side as there were at most; None before that is known."""
        left = 0.0
        for job in self.jobs:
            if job.name in self._over:
                continue
            pace = self._paces.get(job.name)
            own = None if pace is None else pace.seconds_left
            if own is None:
                usual = self._usual(job.stage)
                if usual is None:
                    return None
                own = usual if pace is None else max(0.0, usual - pace.seconds)
            left += own
        return left / self._at_once

    def _usual(self, stage: str) -> float | None:
        """Seconds that a job of a kind takes; an evaluation, before there was one, none that count."""
        took = self._took[stage] or [
            pace.seconds + pace.seconds_left
            for job in self.jobs
            if job.stage == stage
            and (pace := self._paces.get(job.name)) is not None
            and pace.seconds_left is not None
        ]
        if took:
            return sum(took) / len(took)
        return None if stage == "training" else 0.0


class CellProgress:
    """A display of jobs that knows which cells they are of. See `perceptio.experiments.display.Display`.

    Args:
        cells: The cells that are run.
        root: The cache that they lie in.
        console: Where it is shown: a table and bars on a terminal, lines elsewhere.
        say: What becomes of a line.
        summaries: Those that stand for cells, by name; None: those that were kept in the cache.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        root: Path,
        console: Console,
        say: Callable[[str], None],
        summaries: Mapping[str, CellSummary] | None = None,
    ) -> None:
        self.cells, self.root, self.console, self.say = cells, root, console, say
        self._summaries = summaries
        here = [cell for cell in cells if cell.summary not in (summaries or {})]
        self._jobs = {job.name: job for cell in here for job in cell.jobs}
        self._left = TimeLeft(list(self._jobs.values()))
        self._results: dict[int, CellResult] = {}
        self._figures: dict[int, dict[str, Figure]] = {}
        for cell in cells:
            self._read(cell)
        self._notes: dict[str, str] = {}
        self._inner: Display = Bars(console, above=self._above) if console.is_terminal else Lines(say)

    def __enter__(self) -> Self:
        ready = self._complete()
        if ready:
            self.say(f"{ready} of {len(self.cells)} cells are complete already.")
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def reused(self, job: Job) -> None:
        """See `Display.reused`."""
        self._left.over(job)
        if self._notes.pop(job.name, None) is not None:  # Another process was at it until now.
            self._read_again(job)
            self._inner.reused(job)

    def elsewhere(self, job: Job) -> None:
        """See `Display.elsewhere`."""
        self._notes[job.name] = "elsewhere"
        self._inner.elsewhere(job)

    def queued(self, job: Job, number: str) -> None:
        """See `Display.queued`."""
        self._notes[job.name] = "queued"
        self._inner.queued(job, number)

    def skipped(self, job: Job, *, because: Job) -> None:
        """See `Display.skipped`."""
        self._left.over(job)

    def begun(self, job: Job) -> None:
        """See `Display.begun`."""
        self._left.begun(job)
        self._notes[job.name] = "begun"
        self._read_again(job)
        self._inner.begun(job)

    def advanced(self, job: Job, done: int, total: int, note: str) -> None:
        """See `Display.advanced`."""
        self._left.advanced(job, done, total)
        self._notes[job.name] = f"{100 * done // max(total, 1)}%"
        self._inner.advanced(job, done, total, note)

    def ended(self, job: Job, *, complete: bool, error: str = "") -> None:
        """See `Display.ended`."""
        self._left.over(job, complete=complete)
        self._notes.pop(job.name, None)
        self._inner.ended(job, complete=complete, error=error)
        self._read_again(job)
        if self.console.is_terminal:  # The table has the rest.
            if error:
                self.say(f"{job.title}: {error}")
            return
        for cell in self.cells:
            if job.name == cell.evaluation.name and complete:
                figure = self._figure()
                found = f"{figure} {self._state(cell, figure)} · " if figure else ""
                self.say(f"{cell.variant}, seed {cell.seed}: {found}{self.sentence()}")

    def _read_again(self, job: Job) -> None:
        for cell in self.cells:
            if any(job.name == own.name for own in cell.jobs):
                self._read(cell)

    def _read(self, cell: Cell) -> None:
        self._results[id(cell)] = read_cell(self.root, cell.placed, self._summaries)
        self._figures[id(cell)] = flat(self._results[id(cell)].figures)

    def sentence(self) -> str:
        """How many cells are through, and how much time the others will take."""
        failed = len(self.failed())
        parts = [f"{self._complete()} of {len(self.cells)} cells complete"]
        parts += [f"{failed} failed"] if failed else []
        left = self._left.seconds
        parts += [f"about {clock(left)} left"] if left else []
        return ", ".join(parts)

    def failed(self) -> list[CellResult]:
        """The cells that have failed."""
        return [result for result in self._results.values() if result.status == "failed"]

    def table(self, rows: int | None = None) -> Table:
        """The cells as they stand, a row for each variant and a column for each seed.

        Args:
            rows: Show so many variants, first those of which not all is through; None: all.
        """
        figure = self._figure()
        seeds = list(dict.fromkeys(cell.seed for cell in self.cells))
        by_place = {(cell.variant, cell.seed): cell for cell in self.cells}
        variants = list(dict.fromkeys(cell.variant for cell in self.cells))
        shown = variants if rows is None else self._most_telling(variants, max(rows, 1))
        table = Table("", *(f"seed {seed}" for seed in seeds), box=None, title=figure, title_justify="left")
        for variant in shown:
            placed = [by_place.get((variant, seed)) for seed in seeds]
            table.add_row(variant, *("" if one is None else self._state(one, figure) for one in placed))
        if len(shown) < len(variants):
            table.add_row(f"… and {len(variants) - len(shown)} more")
        return table

    def _above(self) -> Table:
        table = self.table(self.console.height - ROWS_LEFT)
        table.caption, table.caption_justify = self.sentence(), "left"
        return table

    def _most_telling(self, variants: Sequence[str], rows: int) -> list[str]:
        if len(variants) <= rows:
            return list(variants)
        going = {cell.variant for cell in self.cells if any(job.name in self._notes for job in cell.jobs)}
        first = sorted(variants, key=lambda variant: variant not in going)[:rows]
        return [variant for variant in variants if variant in first]

    def _state(self, cell: Cell, figure: str | None) -> str:
        note = next((self._notes[job.name] for job in cell.jobs if job.name in self._notes), None)
        found = self._figures[id(cell)]
        if note is None and figure in found:
            by_summary = " (summary)" if self._results[id(cell)].summary is not None else ""
            return f"{found[figure].value:.4g}{by_summary}"
        return note or self._results[id(cell)].status

    def _figure(self) -> str | None:
        """The figure that is shown: the first of those that the experiment's table shows."""
        cells = [figures for figures in self._figures.values() if figures]
        names = chosen(cells, None) or [name for figures in cells for name in figures]
        return names[0] if names else None

    def _complete(self) -> int:
        return sum(result.status == "complete" for result in self._results.values())
