"""`make gpu` goes on whatever a step does, says what happened, and installs only what is missing."""

import importlib
import json
import re
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def environments(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "gpu")
    return importlib.import_module("environments")


@pytest.fixture
def run(environments):
    return importlib.import_module("run")


def an_environment(environments, **facts):
    usual = {"executable": sys.executable, "python": "3.12.0", "packages": {"torch": "2.14"}, "sites": ()}
    usual |= {"other_versions": {}, "gpu": "NVIDIA H100 80GB", "torch_error": None}
    return environments.Environment(**usual | facts)


@pytest.mark.parametrize("rehearse", [True, False])
def test_the_plan_names_scripts_that_are_there(run, rehearse):
    steps = run.plan(rehearse)
    scripts = [step.command[0] for step in steps if step.command[0] != "-m"]
    assert len(scripts) == len(steps) - 1 == 9
    assert all((ROOT / script).is_file() for script in scripts)
    assert len({step.name for step in steps}) == len(steps)
    assert all("{out}" in step.command for step in steps)
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def main(" in path.read_text()}
    of_disks = {"depth_targets", "opening"}
    assert benchmarks == set(run.BENCHMARKS) | of_disks


def test_a_step_that_fails_or_hangs_stops_nothing(run, environments, tmp_path, capsys):
    writes = "import sys; open(sys.argv[1], 'w').write('{\"summary\": \"a | b\"}'); print('fine')"
    hangs = "import subprocess, sys; print('so far', flush=True); subprocess.run(['sleep', '60'])"
    steps = [
        run.Step("hangs", ("-c", hangs), 1.5),
        run.Step("fails", ("-c", "raise SystemExit('no kernel')"), 20),
        run.Step("works", ("-c", writes, "{out}"), 20),
    ]
    outcomes = run.run(steps, an_environment(environments), tmp_path / "results", rehearsal=False)
    assert [outcome.status for outcome in outcomes] == ["timed out", "failed", "passed"]
    assert outcomes[0].seconds < 10
    files = sorted((tmp_path / "results").iterdir())
    assert [file.suffix for file in files] == [".json", ".md"]
    assert all(file.name.startswith("nvidia-h100-80gb-20") for file in files)
    document = json.loads(files[0].read_text())
    assert document["steps"][0]["output"].strip() == "so far"
    assert document["steps"][1]["output"].strip() == "no kernel"
    assert document["steps"][2]["result"] == {"summary": "a | b"}
    table = files[1].read_text()
    assert re.search(r"\| fails \| \w+ \| failed \| \d \| no kernel \|", table)
    assert re.search(r"\| works \| \w+ \| passed \| \d \| a \\\| b \|", table)
    assert table in capsys.readouterr().out


def test_a_rerun_of_one_step_keeps_what_was_found_of_the_others(run, environments, tmp_path, monkeypatch):
    def rerun(commit, *steps, **facts):
        monkeypatch.setattr(run, "_commit", lambda: commit)
        outcomes = run.run(steps, an_environment(environments, **facts), tmp_path, rehearsal=False)
        (path,) = tmp_path.glob("*.json")
        written = {
            step["name"]: (step["status"], step["commit"]) for step in json.loads(path.read_text())["steps"]
        }
        return [outcome.name for outcome in outcomes], list(written.items())

    works = [run.Step(name, ("-c", ""), 20) for name in ("first", "second")]
    rerun("aaa", run.Step("first", ("-c", "raise SystemExit(1)"), 20), works[1])
    ran, written = rerun("bbb", works[0])
    assert ran == ["first"]
    assert written == [("first", ("passed", "bbb")), ("second", ("passed", "aaa"))]
    assert "| second | aaa | passed |" in next(tmp_path.glob("*.md")).read_text()
    _, written = rerun("ccc", works[0], packages={"torch": "2.15"})
    assert written == [("first", ("passed", "ccc"))], "what other versions did is not mixed in"
    (path,) = tmp_path.glob("*.json")
    path.write_text("{")
    _, written = rerun("ddd", works[1], packages={"torch": "2.15"})
    assert written == [("second", ("passed", "ddd"))]


def test_without_git_the_commit_is_unknown(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run._commit() == "unknown"


def test_what_there_is_no_time_for_is_said_to_be_not_run(run, environments, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "BUDGET_S", 2)
    (outcome,) = run.run(
        [run.Step("late", ("-c", ""), 9)], an_environment(environments), tmp_path, rehearsal=False
    )
    assert (outcome.status, outcome.output) == ("not run", "The time of the whole run was used up.")


def test_without_a_gpu_it_says_so_and_names_the_rehearsal(run, environments, monkeypatch):
    said = []
    monkeypatch.setattr(run, "choose", lambda pythons: an_environment(environments, gpu=None))
    assert run.main([], said.append) == 2
    assert said == [f"{sys.executable}: torch sees no GPU. Rehearse without one: make gpu-rehearsal."]


def test_an_unknown_step_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run.main(["--only", "nothing"])
    assert "there is no step 'nothing'; there are: parity, tests," in capsys.readouterr().err


def test_a_python_that_sees_the_gpu_comes_before_one_that_lacks_less(environments, monkeypatch):
    found = {
        "whole": an_environment(environments, executable="whole", gpu=None),
        "gpu": an_environment(environments, executable="gpu", packages={"torch": "2.11", "sam2": None}),
        "both": an_environment(environments, executable="both"),
        "foreign": None,
    }
    monkeypatch.setattr(environments, "probe", found.get)
    assert environments.choose(["foreign"]) is None
    assert environments.choose(["foreign", "whole", "gpu"]).executable == "gpu"
    assert environments.choose(["whole", "gpu", "both"]).executable == "both"


def test_the_probe_tells_what_is_there(environments, monkeypatch):
    wanted = {"attrs": ">=25.1,<27", "torch": ">=99", "no-such-package": ">=1"}
    monkeypatch.setattr(environments, "requirements", lambda: wanted)
    found = environments.probe(sys.executable)
    assert found.missing == ["no-such-package"]
    assert found.other_versions == {"torch": ">=99"}
    assert found.torch_error is None


def test_what_is_needed_is_what_the_project_asks_for(environments):
    asked = environments.requirements()
    assert asked["torch"] == ">=2.10,<3"
    assert {"xformers", "transformers", "pytest", "hypothesis"} <= set(asked) and "mypy" not in asked


def test_only_what_is_missing_is_installed_beside_what_is_there(environments, tmp_path, monkeypatch):
    wheel = tmp_path / "wheels" / "tiny_missing-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    info = "tiny_missing-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_missing.py", "value = 7\n")
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-missing\nVersion: 1.0\nRequires-Dist: attrs\n",
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    wanted = {"attrs": ">=25.1", "tiny-missing": "==1.0", "never-there": "==2.0"}
    monkeypatch.setattr(environments, "requirements", lambda: wanted)
    monkeypatch.setattr(environments, "OVERLAY", tmp_path / "venv")
    before = environments.probe(sys.executable)
    after = environments.completed(before, wheel.parent, lambda words: None)
    assert after.executable.startswith(str(tmp_path)) and after.missing == ["never-there"]
    assert after.packages["attrs"] == before.packages["attrs"]
    assert after.notes == ("never-there==2.0 could not be installed.",)
    assert environments.probe(sys.executable).missing == before.missing, "nothing changed where it was"
