"""Where `--device` puts a model."""

import pytest
import torch

from perceptio.cli.devices import Device, chosen
from perceptio.errors import InputError


def found(monkeypatch, *there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)


@pytest.mark.parametrize(("there", "expected"), [((), "cpu"), (("cuda",), "cuda"), (("mps",), "mps")])
def test_auto_is_a_gpu_where_there_is_one(monkeypatch, there, expected):
    found(monkeypatch, *there)
    assert chosen(Device.AUTO).type == expected
    assert chosen(Device.CPU).type == "cpu"
    assert chosen(Device(expected)).type == expected


def test_a_device_that_is_not_there_is_named(monkeypatch):
    found(monkeypatch)
    with pytest.raises(
        InputError, match="--device cuda is asked for, and PyTorch finds none here: it finds cpu"
    ):
        chosen(Device.CUDA)
    found(monkeypatch, "cuda")
    with pytest.raises(InputError, match="--device mps is asked for.* it finds cpu and cuda"):
        chosen(Device.MPS)
