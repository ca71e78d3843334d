import os
import queue
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perceptio.demo.display import Lines
from perceptio.demo.job_cache import JobCache
from perceptio.demo.jobs import Job
from perceptio.demo.scheduler import Scheduler
from perceptio.errors import PerceptioError, TrainingError


class Played:
    """A process that says what it is told to and ends, unless it waits to be interrupted."""

    def __init__(self, job: Job, reports: queue.Queue, said: list[Any], status: int, waits: bool) -> None:
        self.job, self.status, self.interrupted = job, status, False
        job.out.mkdir(exist_ok=True)
        for report in said:
            reports.put((job.name, report))
        if not waits:
            reports.put((job.name, None))

    def interrupt(self) -> None:
        self.interrupted = True

    def wait(self, timeout: float | None = None) -> int:
        return 130 if self.interrupted else self.status


class Stage:
    """Starts played processes and remembers in which order."""

    def __init__(self, **scripts: tuple[list[Any], int, bool]) -> None:
        self.scripts, self.started = scripts, []
        self.processes: dict[str, Played] = {}

    def __call__(self, job: Job, reports: queue.Queue, log: Any) -> Any:
        self.started.append(job.name)
        said, status, waits = self.scripts.get(job.name, ([], 0, False))
        self.processes[job.name] = Played(job, reports, said, status, waits)
        return self.processes[job.name]


def job(root: Path, name: str, *after: Job, cores: int = 1) -> Job:
    return Job(name=name, stage=name, work="arm", out=root / name, settings={}, after=after, cores=cores)


def schedule(root: Path, jobs: list[Job], start: Callable, cores: int = 2) -> None:
    Scheduler(jobs, JobCache(root), cores, Lines(), start).run()


def test_jobs_begin_after_what_they_are_made_from_and_only_where_cores_are_free(tmp_path: Path) -> None:
    wide = job(tmp_path, "wide", cores=2)
    first, second = job(tmp_path, "first", wide), job(tmp_path, "second", wide)
    last = job(tmp_path, "last", first, second)
    stage = Stage()
    schedule(tmp_path, [last, wide, first, second], stage)
    assert stage.started == ["wide", "first", "second", "last"]
    assert all(JobCache(tmp_path).complete(one) for one in (wide, first, second, last))


def test_a_job_that_wants_more_cores_than_there_are_runs_alone(tmp_path: Path) -> None:
    stage = Stage()
    schedule(tmp_path, [job(tmp_path, "wide", cores=2)], stage, cores=1)
    assert stage.started == ["wide"]


def test_what_is_complete_is_reused(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "one"), job(tmp_path, "two")]
    schedule(tmp_path, jobs, Stage())
    again = Stage()
    schedule(tmp_path, jobs, again)
    assert again.started == []


def test_a_failed_job_is_one_sentence_and_the_others_are_interrupted(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "long"), job(tmp_path, "bad_one")]
    stage = Stage(long=([], 0, True), bad_one=([{"error": "the oven is cold."}], 2, False))
    with pytest.raises(PerceptioError, match="^bad one: the oven is cold.$"):
        schedule(tmp_path, jobs, stage)
    assert stage.processes["long"].interrupted
    assert not any(JobCache(tmp_path).complete(one) for one in jobs)


def test_a_crash_points_to_the_log(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"crashing ended with status 1.*crashing\.log"):
        schedule(tmp_path, [job(tmp_path, "crashing")], Stage(crashing=([], 1, False)))


def test_control_c_interrupts_every_job_and_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(long=([{"done": 1, "total": 2, "note": ""}], 0, True))

    monkeypatch.setattr(Lines, "advanced", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        schedule(tmp_path, [job(tmp_path, "long")], stage)
    assert stage.processes["long"].interrupted
    assert len(JobCache(tmp_path).intervals([job(tmp_path, "long")])) == 1
