import io
from pathlib import Path

import attrs
import pytest
from rich.console import Console

from perceptio.experiments import display
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.plan import Cell
from perceptio.experiments.progress import CellProgress, TimeLeft
from perceptio.ops.json_files import write_json


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    time = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: time[0])
    return time


def cell(root: Path, variant: str, seed: int) -> Cell:
    def job(stage: str, kind: str, *after: Job) -> Job:
        out, settings = root / f"{kind}s", {"of": f"{variant}{seed}"}
        made = Job(name=kind, title=variant, stage=stage, work="", out=out, settings=settings, after=after)
        return attrs.evolve(made, name=f"{kind}_{made.fingerprint}", out=out / made.fingerprint)

    training = job("training", "cell")
    return Cell(
        variant=variant,
        seed=seed,
        tokenizers=(),
        training=training,
        evaluation=job("evaluation", "evaluation", training),
    )


def test_time_left_is_known_from_those_that_ended_and_those_that_run(
    now: list[float], tmp_path: Path
) -> None:
    cells = [cell(tmp_path, "a", seed) for seed in range(4)]
    left = TimeLeft([job for one in cells for job in one.jobs])
    assert left.seconds is None
    first, second, third, _ = (one.training for one in cells)
    left.begun(first)
    left.begun(second)
    left.advanced(first, 0, 100)
    now[0] = 10.0
    left.advanced(first, 10, 100)
    # 90 seconds of the first, as many of the second that began with it, 100 each of the others, two at a time.
    assert left.seconds == (90 + 90 + 100 + 100) / 2
    now[0] = 50.0
    left.over(first, complete=True)
    assert left.seconds == (0 + 50 + 50) / 2
    left.begun(third)
    left.over(second)  # It failed, and says nothing about how long one takes.
    left.begun(cells[0].evaluation)
    now[0] = 54.0
    left.over(cells[0].evaluation, complete=True)
    assert left.seconds == (46 + 50 + 4 + 4 + 4) / 2


@pytest.mark.parametrize("terminal", [False, True])
def test_the_table_fills_as_cells_end(tmp_path: Path, terminal: bool) -> None:
    cells = [cell(tmp_path, variant, seed) for variant in ("a", "b") for seed in (0, 1)]
    said: list[str] = []
    console = Console(file=io.StringIO(), width=100, height=40, force_terminal=terminal)
    cache = JobCache(tmp_path)
    with CellProgress(cells, tmp_path, console, said.append) as progress:
        one, other = cells[0], cells[1]
        for job in one.jobs:
            cache.begin(job)
            progress.begun(job)
            progress.advanced(job, 1, 4, "")
            job.out.mkdir(parents=True)
            if job.stage == "evaluation":
                write_json(
                    job.out / "metrics.json",
                    {"data": {"relative_depth": {"mean": 0.625, "interval": [0.5, 0.75]}}},
                )
                write_json(job.out / "summary.json", {"parameters": 3})
            cache.end(job, complete=True)
            progress.ended(job, complete=True)
        cache.begin(other.training)
        progress.begun(other.training)
        cache.end(other.training, complete=False, error="the oven is cold.")
        progress.ended(other.training, complete=False, error="the oven is cold.")
        progress.skipped(other.evaluation, because=other.training)
        cache.begin(cells[2].training)
        progress.begun(cells[2].training)
        progress.advanced(cells[2].training, 1, 4, "")
        shown = Console(file=io.StringIO(), width=100)
        shown.print(progress.table())
    lines = [line.split() for line in shown.file.getvalue().splitlines()]
    assert lines[0] == ["relative_depth.mean"]
    assert lines[2:] == [["a", "0.625", "failed"], ["b", "25%", "waiting"]]
    assert progress.sentence().startswith("1 of 4 cells complete, 1 failed")
    assert [cell.error for cell in progress.failed()] == ["the oven is cold."]
    if terminal:
        assert said == ["a: the oven is cold."]
        assert "relative_depth.mean" in console.file.getvalue()
    else:
        assert any(
            line.startswith("a, seed 0: relative_depth.mean 0.625 · 1 of 4 cells complete") for line in said
        )


def test_a_table_that_is_too_long_shows_what_runs(tmp_path: Path) -> None:
    cells = [cell(tmp_path, name, 0) for name in "abcde"]
    progress = CellProgress(cells, tmp_path, Console(file=io.StringIO()), lambda line: None)
    progress.begun(cells[3].training)
    shown = Console(file=io.StringIO(), width=100)
    shown.print(progress.table(2))
    assert [line.split()[0] for line in shown.file.getvalue().splitlines()[1:]] == ["a", "d", "…"]


def test_what_another_process_does_is_shown_when_it_is_complete(tmp_path: Path) -> None:
    one, said, cache = cell(tmp_path, "a", 0), [], JobCache(tmp_path)
    progress = CellProgress([one], tmp_path, Console(file=io.StringIO(), width=100), said.append)
    progress.elsewhere(one.training)
    assert "elsewhere" in list(progress.table().columns[1].cells)
    for job in one.jobs:
        cache.begin(job)
        cache.end(job, complete=job is one.training)
    progress.reused(one.training)
    assert list(progress.table().columns[1].cells) == ["stopped"]
    assert said[-1] == "a: complete, reused"
