"""Attention agrees with the float64 reference; `make gpu` measures the same cases, and by how much they differ."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.gpu

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "gpu"))
parity = importlib.import_module("parity")


@pytest.mark.parametrize("dtype", parity.ALLOWED, ids=str)
@pytest.mark.parametrize("model", parity.heads_of_models())
def test_every_mask_agrees_with_the_reference_forward_and_backward(model, dtype, device):
    checks = parity.checks(device, dtype, parity.heads_of_models()[model], device.type == "cpu")
    assert {"packed", "cached", "full"} <= set(checks)
    for mask, check in checks.items():
        for direction, difference in check().items():
            assert difference <= parity.ALLOWED[dtype], (mask, direction)


def test_xformers_serves_packed_samples_or_says_why_not(device, caplog):
    parity.chosen_path.cache_clear()
    caplog.set_level("INFO")
    path = parity.chosen_path(device.type, torch.bfloat16, 64)
    assert path in ("xformers", "sdpa")
    assert f"attention on {device.type} in torch.bfloat16: {path} (" in caplog.text
