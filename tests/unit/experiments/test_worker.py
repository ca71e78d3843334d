import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from perceptio.experiments import worker
from perceptio.experiments.job import work_named
from perceptio.experiments.worker import Channel


def test_reports_are_lines_of_json() -> None:
    stream = io.StringIO()
    Channel(stream).report(3, 10, "loss 1.2")
    Channel(stream).error("the oven is cold.")
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"done": 3, "total": 10, "note": "loss 1.2"},
        {"error": "the oven is cold."},
    ]


def test_without_a_scheduler_the_process_stops_as_after_control_c(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    Channel(Broken()).report(1, 2)
    assert sent == [(os.getpid(), signal.SIGINT)]


def test_what_a_user_can_put_right_is_reported_as_a_sentence(tmp_path: Path) -> None:
    request = {
        "work": "perceptio.demo.work:evaluate_arm",
        "out": str(tmp_path / "out"),
        "settings": {"gallery": 1},
        "inputs": {"perceptio": str(tmp_path), "scenes": str(tmp_path)},
        "cores": 1,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "perceptio.experiments.worker"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "holds no checkpoint" in json.loads(ended.stdout)["error"]


@pytest.mark.parametrize(
    "name", ["os:system", "perceptio.demo.work:build_part", "perceptio.demo.work:nothing", ""]
)
def test_only_what_is_marked_as_work_is_done(name: str) -> None:
    with pytest.raises(ValueError, match="is the work of no job"):
        work_named(name)


def test_a_process_that_is_still_at_a_job_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphan, said, done = FileLock(tmp_path / ".out.lock"), [], []
    monkeypatch.setattr(worker, "work_named", lambda name: done.append)

    def report(*stands: object) -> None:
        said.append(stands)
        assert not done
        orphan.release()

    request = {"work": "", "out": str(tmp_path / "out"), "settings": {}, "inputs": {}, "cores": 1}
    orphan.acquire()
    worker.perform(request, report)
    worker.perform(request, report)
    assert said == [(0, 1, "waiting for a process that is still at it")] and len(done) == 2
