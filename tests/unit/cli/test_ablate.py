import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_slurm
import pytest
from small import scenes_folder
from typer.testing import CliRunner

from perceptio.cli.main import app
from perceptio.data.scenes import Split
from perceptio.errors import InputError, PerceptioError
from perceptio.experiments.experiment import Experiment
from perceptio.experiments.results import read
from perceptio.training.trackers import VARIABLE, named_by_environment

SUPPORT = Path(__file__).parents[2] / "support"
FILE = """
import sys
from pathlib import Path

import attrs

sys.path.append({support!r})
from small import small_recipe

from perceptio.experiments.grid import grid

BASELINE = "lr=0.001"


def variants(steps=15):
    base = small_recipe(Path("train"))
    base = attrs.evolve(
        base,
        data=attrs.evolve(base.data, validation=("validation",)),
        train=attrs.evolve(base.train, steps=steps, save_every=3),
    )
    return grid(base, {{"train.lr": (0.001, 0.002)}})


def tiny():
    return variants(steps=2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment's file and its data."""
    root = tmp_path_factory.mktemp("ablation")
    scenes_folder(root / "train", 8)
    scenes_folder(root / "validation", 2, Split.VALIDATION)
    (root / "rates.py").write_text(FILE.format(support=str(SUPPORT)))
    return root


def ablate(*words: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, ["ablate", *words])
    if isinstance(result.exception, PerceptioError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    "seeds", [("0", "1", "3"), ("0,1,3",), ("0, 1 3",), ("0", "--seeds", "1", "--seeds", "3"), ("0", "1,3")]
)
def test_seeds_are_written_as_one_likes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, seeds: tuple[str, ...]
) -> None:
    asked = []

    def prepare(_: Experiment, *, seeds: list[int], **__: object) -> None:
        asked.append(seeds)
        raise InputError("These are the seeds.")

    monkeypatch.chdir(folder)
    monkeypatch.setattr("perceptio.experiments.run.prepare", prepare)
    for words in (("--seeds", *seeds, "rates.py", "--dry-run"), ("rates.py", "--dry-run", "--seeds", *seeds)):
        with pytest.raises(InputError, match="These are the seeds."):
            ablate(*words)
    assert asked == [[0, 1, 3], [0, 1, 3]]


def test_a_dry_run_shows_the_cells_and_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    shown = ablate("rates.py", "--dry-run", "--seeds", "0", "1", "3")
    assert re.search(r"seed 0\s+seed 1\s+seed 3\s*\n", shown)
    assert "3 tokenizer jobs, 6 training jobs, 6 evaluation jobs" in shown
    assert not (folder / "runs").exists()


def test_what_cannot_be_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for words, message in {
        ("--seeds", "one"): "--seeds one are not seeds: give whole numbers",
        ("--seeds", "0,0"): "The seed 0 is given twice",
        ("--launcher", "slrum"): "There is no launcher component 'slrum'",
        ("--controls", "nothing"): "nothing",
        ("--data", "nowhere"): "nowhere",
        ("--track", "wandbb"): "There is no tracker 'wandbb'; did you mean 'wandb'",
    }.items():
        with pytest.raises(PerceptioError, match=message):
            ablate("rates.py", "--dry-run", *words)


def test_the_processes_of_cells_are_told_of_trackers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv(VARIABLE, "")
    ablate("rates.py", "--dry-run", "--track", "tensorboard")
    assert named_by_environment() == ("tensorboard",)


def test_an_error_in_the_file_is_shown_as_python_shows_it(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text('BASELINE = "a"\n\n\ndef variants():\n    return {"a": 1 / 0}\n')
    result = CliRunner().invoke(app, ["ablate", str(tmp_path / "bad.py")])
    assert result.exit_code == 1 and "ZeroDivisionError" in result.stderr


@pytest.mark.slow
def test_a_killed_experiment_goes_on_and_runs_nothing_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    out = folder / "out"
    words = ("rates.py", "--seeds", "0", "--jobs", "2", "--out", str(out))
    first = subprocess.Popen(
        [sys.executable, "-m", "perceptio.cli.main", "ablate", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SUPPORT.parents[1])},
    )
    while first.poll() is None and not list(out.glob("cells/*/checkpoint/training.json")):
        time.sleep(0.05)
    first.kill()
    before, _ = first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL, before
    assert {cell.status for cell in read(out).cells} == {"stopped"}
    after = ablate(*words)
    assert "tokenizer" not in after and "2 of 2 cells complete" in after
    again = ablate(*words)
    assert "2 of 2 cells are complete already" in again and "begins" not in again
    logs = [(cell.folder / "metrics.jsonl").read_text().splitlines() for cell in read(out).cells]
    assert [len(lines) for lines in logs] == [15, 15]


@pytest.mark.slow
def test_one_that_takes_too_long_has_failed_and_the_exit_status_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    words = ("rates.py", "--seeds", "0", "--tiny", "--out", "slow", "--timeout", "0.01")
    result = CliRunner().invoke(app, ["ablate", *words])
    assert result.exit_code == 1
    assert "took more than 0.01 minutes (--timeout) and was ended" in result.output
    assert "0 of 2 cells complete, 2 failed" in result.output


def test_cells_run_on_a_cluster_are_those_of_this_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{fake_slurm.install(tmp_path / 'slurm')}{os.pathsep}{os.environ['PATH']}")
    words = ("rates.py", "--tiny", "--seeds", "0", "--out", "runs/cluster")
    shown = ablate(*words, "--launcher", "slurm", "--launcher-setting", "look_every_s=0.1")
    assert "in the queue as 2_1" in shown and "2 of 2 cells complete" in shown
    result = read(Path("runs/cluster"))
    assert all(cell.status == "complete" and cell.figures for cell in result.cells)
    assert "Nothing would run: every cell is complete." in ablate(*words, "--dry-run")
    # Their summaries stand for them in any other folder.
    kept = folder / "rates.cells"
    saved = CliRunner().invoke(app, ["report", "runs/cluster", "--save-summaries", str(kept)])
    assert "summaries of 2 cells" in saved.output and len(list(kept.iterdir())) == 2
    elsewhere = (*words[:-1], "runs/elsewhere", "--dry-run")
    shown = ablate(*elsewhere)
    assert "2 of 2 cells are known from summaries" in shown and "Nothing would run" in shown
    assert shown.count("(summary)") == 2
    assert "2 training jobs" in ablate(*elsewhere, "--rerun")
    for argument, message in {
        "rates.py": "None of the 2 summaries in .*rates.cells is of a recipe that a variant of rates has now",
        "rites.py": r"There is no experiment rites.py: .* with the library. There is: .*experiments/lessons, ",
        "runs": "runs holds no experiment",
    }.items():
        refused = CliRunner().invoke(app, ["report", argument])
        assert re.search(message, str(refused.exception))
    with pytest.raises(InputError, match="rates.py is no folder of an experiment"):
        raise CliRunner().invoke(app, ["report", "rates.py", "--save-summaries", "x"]).exception
    shutil.rmtree(kept)


def test_a_setting_of_the_launcher_that_cannot_be_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(PerceptioError, match="local has no setting 'partition'"):
        ablate("rates.py", "--launcher-setting", "partition=gpu")
    with pytest.raises(
        PerceptioError, match="--launcher-setting gpu is no KEY=VALUE; write, say, --launcher-set"
    ):
        ablate("rates.py", "--launcher-setting", "gpu")
