import os
import queue
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pytest

from perceptio.errors import PerceptioError, TrainingError
from perceptio.experiments import local
from perceptio.experiments.display import Lines
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.local import LocalLauncher


class Played:
    """A process that says what it is told to and ends, unless it waits to be interrupted."""

    def __init__(self, job: Job, reports: queue.Queue, said: list[Any], status: int, waits: bool) -> None:
        self.job, self.status, self.reports = job, status, reports
        self.interrupted = self.killed = False
        job.out.mkdir(exist_ok=True)
        for report in said:
            reports.put((job.name, report))
        if not waits:
            reports.put((job.name, None))

    def interrupt(self) -> None:
        self.interrupted = True

    def kill(self) -> None:
        self.killed = True
        self.reports.put((self.job.name, None))

    def wait(self, timeout: float | None = None) -> int:
        return -signal.SIGKILL if self.killed else 130 if self.interrupted else self.status


class Stage:
    """Starts played processes and remembers in which order."""

    def __init__(self, **scripts: tuple[list[Any], int, bool]) -> None:
        self.scripts, self.started = scripts, []
        self.processes: dict[str, Played] = {}
        self.environments: list[dict[str, str]] = []

    def __call__(self, job: Job, reports: queue.Queue, log: TextIO, environment: dict[str, str]) -> Any:
        self.started.append(job.name)
        self.environments.append(environment)
        said, status, waits = self.scripts.get(job.name, ([], 0, False))
        self.processes[job.name] = Played(job, reports, said, status, waits)
        return self.processes[job.name]


def job(root: Path, name: str, *after: Job, cores: float = 1) -> Job:
    return Job(name=name, stage=name, work="", out=root / name, settings={}, after=after, cores=cores)


def schedule(root: Path, jobs: list[Job], start: Callable, cores: int = 2, **settings: Any) -> None:
    settings = {"gpus": (), "stop_on_failure": True, **settings}
    LocalLauncher(cores=cores, start=start, **settings).run(jobs, JobCache(root), Lines())


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


def test_jobs_share_cores(tmp_path: Path) -> None:
    """Two wait for the third, so that it must begin beside them; the fourth has no room until then."""
    first, second, third, fourth = (job(tmp_path, name, cores=2 / 3) for name in ("1", "2", "3", "4"))
    stage = Stage(**{"1": ([], 0, True), "2": ([], 0, True)})

    def start(one: Job, reports: queue.Queue, log: TextIO, environment: dict[str, str]) -> Any:
        if one is third:
            for waiting in (first, second):
                reports.put((waiting.name, None))
        assert one is not fourth or len(stage.started) == 3
        return stage(one, reports, log, environment)

    schedule(tmp_path, [first, second, third, fourth], start)
    assert stage.started == ["1", "2", "3", "4"]


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


def test_a_failed_job_stops_only_what_comes_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bad = job(tmp_path, "bad")
    after, last, other = job(tmp_path, "after", bad), job(tmp_path, "last", bad), job(tmp_path, "other")
    stage = Stage(bad=([{"error": "the oven is cold."}], 2, False))
    schedule(tmp_path, [bad, after, last, other], stage, cores=1, stop_on_failure=False)
    assert stage.started == ["bad", "other"]
    assert "after: not begun, since bad is not complete" in caplog.messages
    cache = JobCache(tmp_path)
    assert (cache.record("bad").status, cache.record("bad").error) == ("failed", "the oven is cold.")
    assert cache.complete(other) and cache.record("after").status == "waiting"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-signal.SIGKILL, "was killed (SIGKILL), as a system does that runs out of memory"),
        (-signal.SIGSEGV, "died of the signal SIGSEGV; what happened is at the end of"),
        (1, "ended with status 1; what happened is at the end of"),
        (130, ""),
    ],
)
def test_last_words_say_how_a_job_ended(tmp_path: Path, status: int, words: str) -> None:
    schedule(tmp_path, [job(tmp_path, "one")], Stage(one=([], status, False)), stop_on_failure=False)
    record = JobCache(tmp_path).record("one")
    assert record.status == ("failed" if words else "stopped")
    assert record.error.startswith(words) and bool(record.error) == bool(words)


def test_last_words_quote_this_attempt_s_log(tmp_path: Path) -> None:
    def crash(job: Job, reports: queue.Queue, log: TextIO, environment: dict[str, str]) -> Any:
        log.write("Traceback\nValueError: the yeast is dead\n\n")
        return Played(job, reports, [], 1, False)

    JobCache(tmp_path).root.mkdir()
    JobCache(tmp_path).log_of(job(tmp_path, "one")).write_text("of an earlier attempt\n")
    schedule(tmp_path, [job(tmp_path, "one")], crash, stop_on_failure=False)
    assert "ended with status 1 (ValueError: the yeast is dead)" in JobCache(tmp_path).record("one").error


def test_a_job_that_hangs_is_asked_to_end_and_then_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "PATIENCE_S", 0.0)
    monkeypatch.setattr(local, "LOOK_EVERY_S", 0.01)
    stage = Stage(hangs=([], 0, True))
    jobs = [job(tmp_path, "hangs"), job(tmp_path, "other")]
    schedule(tmp_path, jobs, stage, timeout_s=0.0, stop_on_failure=False)
    assert stage.processes["hangs"].interrupted and stage.processes["hangs"].killed
    record = JobCache(tmp_path).record("hangs")
    assert record.status == "failed" and "took more than 0 minutes (--timeout) and was ended" in record.error
    assert JobCache(tmp_path).complete(jobs[1])


def test_each_job_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    stage = Stage()
    jobs = [job(tmp_path, name) for name in ("one", "two", "three")]
    schedule(tmp_path, jobs, stage, cores=2, gpus=("4", "7"))
    assert [one["CUDA_VISIBLE_DEVICES"] for one in stage.environments[:2]] == ["4", "7"]
    assert LocalLauncher(gpus=("4", "7")).cores == 2


def test_what_another_process_is_at_is_waited_for_and_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = job(tmp_path, "one"), JobCache(tmp_path)
    assert other.claim(one)
    other.begin(one)

    def elsewhere(display: Lines, job: Job) -> None:
        job.out.mkdir()
        other.end(job, complete=True)
        other.release(job)

    monkeypatch.setattr(Lines, "elsewhere", elsewhere)
    stage = Stage()
    schedule(tmp_path, [one], stage)
    assert stage.started == []
