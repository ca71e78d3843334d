from pathlib import Path

import pytest

from perceptio.errors import DataError
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache, covered_seconds


def job(root: Path, after: tuple[Job, ...] = (), **settings: int) -> Job:
    return Job(
        name="bake",
        stage="bake",
        work="perceptio.bakery:bake",
        out=root / "bake",
        settings=settings,
        after=after,
    )


def finish(cache: JobCache, done: Job) -> None:
    cache.begin(done)
    done.out.mkdir(exist_ok=True)
    (done.out / "bread").touch()
    cache.end(done, complete=True)


def test_a_job_is_complete_only_under_its_own_settings(tmp_path: Path) -> None:
    cache = JobCache(tmp_path)
    assert not cache.complete(job(tmp_path, heat=200))
    finish(cache, job(tmp_path, heat=200))
    assert cache.complete(job(tmp_path, heat=200))
    assert not cache.complete(job(tmp_path, heat=180))


def test_a_job_is_not_complete_when_what_it_was_made_from_has_changed(tmp_path: Path) -> None:
    cache = JobCache(tmp_path)
    finish(cache, job(tmp_path, after=(job(tmp_path, flour=1),)))
    assert cache.complete(job(tmp_path, after=(job(tmp_path, flour=1),)))
    assert not cache.complete(job(tmp_path, after=(job(tmp_path, flour=2),)))


def test_a_stopped_job_keeps_what_it_made_and_a_changed_one_does_not(tmp_path: Path) -> None:
    cache, bread = JobCache(tmp_path), tmp_path / "bake" / "bread"
    cache.begin(job(tmp_path, heat=200))
    bread.parent.mkdir()
    bread.touch()
    cache.end(job(tmp_path, heat=200), complete=False)
    assert not cache.complete(job(tmp_path, heat=200))
    cache.begin(job(tmp_path, heat=200))
    assert bread.exists()
    cache.begin(job(tmp_path, heat=180))
    assert not bread.exists()


def test_what_no_job_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bake").mkdir()
    (tmp_path / "bake" / "mine").touch()
    for act in (JobCache(tmp_path).begin, JobCache(tmp_path).forget):
        with pytest.raises(DataError, match="was written by no job of this command, so it is left as it is"):
            act(job(tmp_path))
    assert (tmp_path / "bake" / "mine").exists()


def test_a_broken_record_means_not_complete(tmp_path: Path) -> None:
    cache = JobCache(tmp_path)
    finish(cache, job(tmp_path))
    (tmp_path / "jobs" / "bake.json").write_text('{"complete": tr')
    assert not cache.complete(job(tmp_path))


def test_a_job_is_waiting_and_then_stopped_failed_or_complete(tmp_path: Path) -> None:
    cache, bread = JobCache(tmp_path), job(tmp_path)
    assert cache.record("bake").status == "waiting"
    for complete, error, status in (
        (False, "", "stopped"),
        (False, "It burnt.", "failed"),
        (True, "", "complete"),
    ):
        cache.begin(bread)
        assert cache.record("bake").status == "stopped" and not cache.record("bake").error
        cache.end(bread, complete=complete, error=error)
        assert (cache.record("bake").status, cache.record("bake").error) == (status, error)


def test_two_processes_do_not_claim_one_job(tmp_path: Path) -> None:
    mine, other = JobCache(tmp_path), JobCache(tmp_path)
    assert mine.claim(job(tmp_path)) and not other.claim(job(tmp_path))
    mine.release(job(tmp_path))
    assert other.claim(job(tmp_path)) and not mine.claim(job(tmp_path))


def test_intervals_add_up_over_attempts(tmp_path: Path) -> None:
    cache = JobCache(tmp_path)
    for complete in (False, True):
        cache.begin(job(tmp_path))
        cache.end(job(tmp_path), complete=complete)
    assert len(cache.intervals([job(tmp_path)])) == 2


def test_overlapping_intervals_are_counted_once() -> None:
    assert covered_seconds([(0, 10), (5, 12), (20, 21), (6, 7)]) == 13
    assert covered_seconds([]) == 0
