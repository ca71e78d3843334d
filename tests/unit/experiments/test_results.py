import json
import shutil
from pathlib import Path

import pytest

from perceptio.errors import DataError
from perceptio.experiments.job import Job
from perceptio.experiments.job_cache import JobCache
from perceptio.experiments.results import read


def record(root: Path, name: str, *, complete: bool, error: str = "") -> None:
    cache, job = JobCache(root), Job(name=name, stage="", work="", out=root / name, settings={})
    cache.begin(job)
    cache.end(job, complete=complete, error=error)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An experiment of which one cell is complete, one failed in training, one stopped, and one waits."""
    cells = [
        {
            "variant": variant,
            "seed": seed,
            "fingerprint": f"{variant}{seed}",
            "evaluation": f"e{variant}{seed}",
        }
        for variant in "ab"
        for seed in (0, 1)
    ]
    cells[1]["tokenizers"] = ["t"]
    document = {
        "name": "letters",
        "baseline": "b",
        "data": {"data/test": "abc"},
        "cache": ".",
        "cells": cells,
    }
    (tmp_path / "experiment.json").write_text(json.dumps(document))
    record(tmp_path, "cell_a0", complete=True)
    record(tmp_path, "evaluation_ea0", complete=True)
    found = tmp_path / "evaluations" / "ea0"
    found.mkdir(parents=True)
    (found / "metrics.json").write_text('{"data/test": {"relative_depth": {"mean": 0.5}}}')
    (found / "summary.json").write_text('{"parameters": 12}')
    record(tmp_path, "tokenizer_t", complete=False, error="the oven is cold.")
    record(tmp_path, "cell_b0", complete=False)
    return tmp_path


def test_cells_are_read_as_they_stand(out: Path) -> None:
    result = read(out)
    assert (result.name, result.baseline, result.variants, result.seeds) == (
        "letters",
        "b",
        ("a", "b"),
        (0, 1),
    )
    assert [cell.status for cell in result.cells] == ["complete", "failed", "stopped", "waiting"]
    complete, failed, stopped, waiting = result.cells
    assert complete.figures == {"relative_depth": {"mean": 0.5}} and complete.parameters == 12
    assert complete.folder == out / "cells" / "a0" and complete.answers.parent.name == "ea0"
    assert failed.error == "the oven is cold." and failed.figures == {} and failed.seconds is None
    assert stopped.seconds is not None and waiting.seconds is None
    assert result.of_variant("b") == (stopped, waiting)


def test_a_folder_without_an_experiment_says_so(tmp_path: Path, out: Path) -> None:
    with pytest.raises(
        DataError, match=r"holds no experiment \(it has no experiment.json\): run `perceptio ablate`"
    ):
        read(tmp_path / "nothing")
    (out / "experiment.json").write_text('{"name": "letters"}')
    with pytest.raises(DataError, match="does not describe an experiment"):
        read(out)


@pytest.mark.parametrize("name", ["metrics.json", "summary.json"])
def test_a_broken_evaluation_says_what_to_remove_and_then_is_to_be_made_again(out: Path, name: str) -> None:
    evaluation = out / "evaluations" / "ea0"
    (evaluation / name).write_text("{")
    with pytest.raises(
        DataError, match=f"{name} is not JSON .*: remove .*ea0, and run `perceptio ablate` again"
    ):
        read(out)
    shutil.rmtree(evaluation)
    assert read(out).cells[0].status == "stopped"
