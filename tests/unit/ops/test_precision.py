"""Native bfloat16: by what the CPU says of itself."""

import pytest
import torch

from perceptio.errors import RecipeError
from perceptio.ops.precision import computes_bfloat16, published_precision


def test_weights_are_held_as_they_are_published():
    stated = [None, "float32", torch.float32, "bfloat16", torch.bfloat16, "float16", torch.float16]
    assert [published_precision(one) for one in stated] == ["float32"] * 3 + ["bfloat16"] * 2 + [
        "float16"
    ] * 2
    with pytest.raises(
        RecipeError, match="states weights in 'float8_e4m3fn', and a part holds them in float32, bfloat16, fl"
    ):
        published_precision(torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({}, False),
    ],
)
def test_a_cpu_is_native_by_its_instructions(monkeypatch, capabilities, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_bfloat16(torch.device("cpu")) is native


def test_a_pytorch_that_cannot_tell_has_none(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_bfloat16(torch.device("cpu"))
