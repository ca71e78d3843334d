"""The Slurm launcher: on submitit's own local and debug executors, and on a Slurm of one machine."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import fake_slurm
import pytest
from safetensors.torch import load_file
from small import scenes_folder, small_recipe

from perceptio.errors import PerceptioError, PluginError, RecipeError, TrainingError, UnknownNameError
from perceptio.experiments.display import Lines
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.launchers import LaunchSettings, launcher_named
from perceptio.interfaces import StreamLossConfig
from perceptio.ops.interrupts import Stopped
from perceptio.registry import Registry
from perceptio.serialize import to_json

PLUGIN = """
from typing import ClassVar
import attrs
from perceptio.hookspecs import hookimpl
from perceptio.interfaces import Kind, LauncherConfig


class InTurn:
    def __init__(self, config, limits):
        self.config, self.limits = config, limits

    def run(self, jobs, cache, display):
        for job in jobs:
            assert cache.claim(job)
            cache.begin(job)
            job.out.mkdir()
            cache.end(job, complete=True)
            cache.release(job)


@attrs.frozen(kw_only=True)
class InTurnConfig(LauncherConfig):
    name: ClassVar[str] = "in_turn"
    kind: ClassVar[Kind] = Kind.LAUNCHER
    interface: ClassVar[tuple[int, int]] = (2, 0)
    host: str = ""

    def build(self, settings):
        return InTurn(self, settings)


@hookimpl
def register_launchers():
    return [InTurnConfig]
"""
QUICK = {"look_every_s": 0.1}
WEIGHTS = "checkpoint/model.safetensors"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return scenes_folder(folder / "train", count=4)


def training(name: str, root: Path, scenes: Path, steps: int = 2) -> Job:
    """A job that trains on answers alone, as quickly as can be, and saves at the end or when it is told to."""
    base = small_recipe(scenes)
    recipe = attrs.evolve(
        base,
        streams=(),
        heads={},
        answer_format="direct",
        losses=tuple(one for one in base.losses if not isinstance(one.loss, StreamLossConfig)),
        data=attrs.evolve(base.data, perceive="never", text_only_readout=0.0, text_only_comparison=0.0),
        train=attrs.evolve(base.train, steps=steps, save_every=10_000),
    )
    return Job(
        name=name,
        stage="training",
        work="perceptio.experiments.work:train_cell",
        out=root / name,
        settings={"recipe": to_json(recipe), "tokenizers": {}},
    )


def failing(name: str, root: Path, *after: Job) -> Job:
    return Job(
        name=name,
        stage="training",
        work="perceptio.experiments.work:nothing",
        out=root / name,
        settings={},
        after=after,
    )


def launch(root: Path, jobs: list[Job], limits: LaunchSettings | None = None, **settings: Any) -> list[str]:
    """Run jobs; what was said."""
    said: list[str] = []
    launcher = launcher_named("slurm", limits or LaunchSettings(), QUICK | settings)
    launcher.run(jobs, JobCache(root), Lines(said.append, every_s=0.0))
    return said


def once(condition: Callable[[], bool], then: Callable[[], None]) -> threading.Thread:
    """Do something in a thread as soon as a condition holds."""

    def wait() -> None:
        until = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder of what a Slurm of this machine knows."""
    monkeypatch.setenv("PATH", f"{fake_slurm.install(tmp_path / 'slurm')}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "slurm" / "state"


def test_a_job_that_fails_stops_only_what_comes_after_it(tmp_path, scenes):
    bad = failing("bad", tmp_path)
    one, after = training("one", tmp_path, scenes), failing("after", tmp_path, bad)
    said = launch(tmp_path, [bad, one, after], cluster="local")
    cache = JobCache(tmp_path)
    assert cache.complete(one) and (one.out / WEIGHTS).is_file()
    assert cache.record("bad").status == "failed" and "is the work of no job" in cache.record("bad").error
    assert cache.record("after").status == "waiting"
    assert any(line.startswith("one: in the queue as ") for line in said)
    assert "after: not begun, since bad is not complete" in said
    assert launch(tmp_path, [one], cluster="local") == ["one: complete, reused"]


def test_the_debug_executor_runs_jobs_in_this_process_one_after_the_other(tmp_path, scenes):
    one = training("one", tmp_path, scenes)
    said = launch(tmp_path, [one], cluster="debug")
    assert JobCache(tmp_path).complete(one)
    assert said[-1].startswith("one: complete after ")


def test_a_job_that_takes_too_long_has_failed_and_stops_all_where_that_is_asked_for(tmp_path, scenes):
    limits = LaunchSettings(timeout_s=0.6, stop_on_failure=True)
    with pytest.raises(TrainingError, match=r"one: took more than 0.01 minutes \(--timeout\) and was ended"):
        launch(tmp_path, [training("one", tmp_path, scenes, steps=5000)], limits, cluster="local")


def test_control_c_ends_what_is_on_this_machine_and_the_next_time_it_goes_on(tmp_path, scenes):
    cache, one = JobCache(tmp_path), training("one", tmp_path, scenes, steps=80)
    told = once((cache.root / "one.progress.json").exists, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        launch(tmp_path, [one], cluster="local")
    told.join()
    assert cache.record("one").status == "stopped" and (one.out / "checkpoint").is_dir()
    launch(tmp_path, [one], cluster="local")
    assert cache.complete(one) and len(cache.record("one").intervals) == 2


def test_a_preempted_job_is_queued_again_and_ends_as_one_that_was_never_stopped(tmp_path, scenes, slurm):
    """Sent as Slurm sends it, to every process of the job."""
    quiet = training("one", tmp_path / "quiet", scenes, steps=80)
    launch(tmp_path / "quiet", [quiet], cluster="debug")
    cache, one = JobCache(tmp_path), training("one", tmp_path, scenes, steps=80)
    saved = []

    def preempt() -> None:
        fake_slurm.scancel(slurm, "1", "--signal", "SIGUSR2")
        ended = once(
            lambda: cache.record("one").intervals[0][1] is not None,
            lambda: saved.append((one.out / "checkpoint").is_dir()),
        )
        ended.join()

    told = once((cache.root / "one.progress.json").exists, preempt)
    launch(tmp_path, [one])
    told.join()
    assert cache.complete(one) and len(cache.record("one").intervals) == 2 and saved == [True]
    ours, never_stopped = load_file(one.out / WEIGHTS), load_file(quiet.out / WEIGHTS)
    assert ours.keys() == never_stopped.keys()
    assert all(value.equal(never_stopped[name]) for name, value in ours.items())


def test_alike_jobs_are_one_array_that_is_found_again_and_never_submitted_twice(
    tmp_path, scenes, slurm, caplog
):
    cache = JobCache(tmp_path)
    jobs = [training(name, tmp_path, scenes, steps=80) for name in ("one", "two")]
    settings: dict[str, Any] = {"partition": "gpu", "memory_gb": 1.5, "options.mail-type": "FAIL"}
    told = once((cache.root / "one.progress.json").exists, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        launch(tmp_path, jobs, **settings)
    told.join()
    assert "2 jobs go on in the cluster" in caplog.text and "scancel 1_0 1_1" in caplog.text
    said = launch(tmp_path, jobs, **settings)
    assert all(map(cache.complete, jobs)) and all(len(cache.record(job.name).intervals) == 1 for job in jobs)
    assert {"one: in the queue as 1_0", "two: in the queue as 1_1"} <= set(said)
    (script,) = slurm.glob("*.sh")
    for line in (
        "array=0-1%2",
        "partition=gpu",
        "mem=1536MB",
        "cpus-per-task=1",
        "mail-type=FAIL",
        "time=240",
    ):
        assert f"#SBATCH --{line}\n" in script.read_text()
    assert "#SBATCH --signal=USR2@120\n" in script.read_text()


def test_a_job_that_reaches_its_time_limit_too_often_has_failed(tmp_path, scenes, slurm):
    cache, one = JobCache(tmp_path), training("one", tmp_path, scenes, steps=5000)
    told = once(
        (cache.root / "one.progress.json").exists,
        lambda: fake_slurm.scancel(slurm, "1", "--signal", "SIGUSR2"),
    )
    launch(tmp_path, [one], time_min=5, requeues=0)
    told.join()
    assert cache.record("one").error.startswith(
        "reached its time limit too often to be queued again: give more"
    )
    assert (one.out / "checkpoint").is_dir()


def test_control_c_cancels_jobs_in_the_cluster_where_that_is_asked_for(tmp_path, scenes, slurm):
    cache, one = JobCache(tmp_path), training("one", tmp_path, scenes, steps=5000)
    told = once((cache.root / "one.progress.json").exists, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Stopped):
        launch(tmp_path, [one], on_stop="cancel")
    told.join()
    once(lambda: cache.record("one").intervals[0][1] is not None, lambda: None).join()
    assert cache.record("one").status == "stopped" and (one.out / "checkpoint").is_dir()


def test_at_most_so_many_jobs_are_submitted(tmp_path, scenes, slurm):
    jobs = [training(name, tmp_path, scenes) for name in ("one", "two")]
    launch(tmp_path, jobs, LaunchSettings(jobs=1))
    assert sorted(file.name for file in slurm.glob("*.pid")) == ["1.pid", "2.pid"]
    ((_, ended),), ((begun, _),) = (JobCache(tmp_path).record(job.name).intervals for job in jobs)
    assert ended <= begun


def test_a_job_that_the_cluster_ends_has_failed_with_its_words(tmp_path, scenes, slurm, monkeypatch):
    monkeypatch.setattr("perceptio.experiments.slurm.LATE_S", 0.0)
    cache, one = JobCache(tmp_path), training("one", tmp_path, scenes, steps=5000)
    told = once(
        (cache.root / "one.progress.json").exists, lambda: fake_slurm.scancel(slurm, "1", "--signal", "KILL")
    )
    monkeypatch.setattr("submitit.SlurmJob.watcher._delay_s", 0.1)
    launch(tmp_path, [one])
    told.join()
    assert cache.record("one").error.startswith("ended as FAILED in the cluster's words; what happened is at")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"partion": "gpu"}, UnknownNameError, "slurm has no setting 'partion'; did you mean 'partition'"),
        ({"time_min": "soon"}, RecipeError, "slurm.time_min"),
        ({"gpus": -1}, RecipeError, "slurm: gpus is -1; it must not be below 0"),
        ({"cpus": 0}, RecipeError, "slurm: cpus is 0; it must be above 0"),
        ({"time_min": 2}, RecipeError, "save_s is 120 and time_min is 2: a job runs longer than it takes"),
        ({"cluster": "slrum"}, RecipeError, "slurm.cluster"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        launcher_named("slurm", LaunchSettings(), settings)


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PerceptioError, match="no Slurm on this machine.*on a login node.*cluster=local"):
        launcher_named("slurm", LaunchSettings())
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        PerceptioError, match=r"needs submitit, which is not installed: pip install 'perceptio\[slurm\]'"
    ):
        launcher_named("slurm", LaunchSettings())
    with pytest.raises(UnknownNameError, match="no launcher component 'slrum'; did you mean 'slurm'"):
        launcher_named("slrum", LaunchSettings())


def test_a_plugin_brings_a_launcher(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    registry = Registry.discover([file])
    launcher = launcher_named("mine/in_turn", LaunchSettings(jobs=3), {"host": "node"}, registry)
    assert (launcher.config.host, launcher.limits.jobs) == ("node", 3)
    cache, one = JobCache(tmp_path), Job(name="one", stage="", work="", out=tmp_path / "one", settings={})
    launcher.run([one], cache, Lines(lambda line: None))
    assert cache.complete(one)
    with pytest.raises(
        PluginError, match="register_launchers returned .*; it must return classes derived from"
    ):
        file = tmp_path / "broken.py"
        file.write_text(PLUGIN.replace("[InTurnConfig]", "[InTurn]"))
        launcher_named("broken/in_turn", LaunchSettings(), {}, Registry.discover([file]))


def test_what_the_cluster_refuses_is_a_sentence(tmp_path, scenes, slurm):
    refused = r"The cluster refused 1 training job \(.*invalid partition specified: closed.*\): change a"
    with pytest.raises(PerceptioError, match=refused):
        launch(tmp_path, [training("one", tmp_path, scenes)], partition="closed")
