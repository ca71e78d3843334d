import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from perceptio.experiments import display
from perceptio.experiments.display import Bars, Lines, Pace, clock
from perceptio.experiments.job import Job


def job(name: str) -> Job:
    return Job(name=name, stage=name, work="", out=Path(name), settings={})


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    time = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: time[0])
    return time


def test_time_left_counts_from_the_first_report(now: list[float]) -> None:
    pace = Pace()
    assert pace.seconds_left is None
    now[0] = (
        100.0  # Loading took long, and an earlier attempt had done 50 already: neither says how fast it goes.
    )
    pace.update(50, 100)
    assert pace.seconds_left is None
    now[0] = 110.0
    pace.update(60, 100)
    assert pace.seconds_left == 40.0


def test_preparing_says_nothing_about_time_left(now: list[float]) -> None:
    pace = Pace()
    for second in (0.0, 50.0):
        now[0] = second
        pace.update(0, 100)
    assert pace.seconds_left is None
    now[0] = 60.0
    pace.update(10, 100)
    assert pace.seconds_left == 90.0


def test_clock() -> None:
    assert clock(125.9) == "2:05"
    assert clock(None) == "-:--"


def test_lines_come_now_and_then(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Lines(every_s=15) as lines:
        lines.begun(job("answers_only"))
        for second in range(31):
            now[0] = float(second)
            lines.advanced(job("answers_only"), second, 60, "loss 1.000")
        lines.ended(job("answers_only"), complete=True)
        lines.reused(job("scenes"))
        lines.begun(job("direct"))
        lines.ended(job("direct"), complete=False, error="the oven is cold.")
        lines.skipped(job("evaluation_direct"), because=job("direct"))
    assert caplog.messages == [
        "answers only: begins",
        "answers only: 15 of 60, 0:45 left · loss 1.000",
        "answers only: 30 of 60, 0:30 left · loss 1.000",
        "answers only: complete after 0:30",
        "scenes: complete, reused",
        "direct: begins",
        "direct: failed after 0:00: the oven is cold.",
        "evaluation direct: not begun, since direct is not complete",
    ]


def test_bars_show_every_job() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Bars(console) as bars:
        bars.reused(job("scenes"))
        bars.begun(job("direct"))
        bars.advanced(job("direct"), 5, 10, "loss 0.5")
        bars.begun(job("perceptio"))
        bars.ended(job("perceptio"), complete=False)
        bars.ended(job("direct"), complete=True)
        bars.elsewhere(job("answers_only"))
        bars.begun(job("answers_only"))
        bars.ended(job("answers_only"), complete=False, error="the oven is cold.")
        bars.skipped(job("evaluation"), because=job("answers_only"))
    shown = console.file.getvalue()
    for text in ("scenes", "complete, reused", "10/10", "stopped", "the oven is cold.", "not begun"):
        assert text in shown
