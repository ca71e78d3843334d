"""Values of a safetensors file go straight into place, whatever its layout and dtype."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from perceptio.errors import CheckpointError
from perceptio.ops.tensor_file import CHUNK, TensorFile, are_finite

STORED = {
    "bfloat16": torch.arange(6, dtype=torch.bfloat16).view(2, 3),
    "float32": torch.linspace(-1, 1, 6).view(2, 3),
    "int64": torch.arange(6).view(2, 3) - 3,
    "bool": torch.tensor([[True, False, True]]),
    "scalar": torch.tensor(7.0),
    "empty": torch.empty(0, 3),
}


@pytest.fixture
def file(tmp_path):
    save_file(STORED, tmp_path / "w.safetensors")
    return TensorFile(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", STORED)
def test_a_tensor_is_read_into_its_place(file, name):
    place = torch.ones_like(STORED[name])
    with file.opened() as opened:
        assert opened.read_into(name, place)
        assert torch.equal(opened.read(name), STORED[name])
    assert torch.equal(place, STORED[name])


def test_a_place_of_another_dtype_or_layout_is_filled_too(file):
    other, turned = torch.ones(2, 3, dtype=torch.float64), torch.ones(3, 2).mT
    with file.opened() as opened:
        opened.read_into("bfloat16", other)
        opened.read_into("float32", turned)
    assert torch.equal(other, STORED["bfloat16"].double()) and torch.equal(turned, STORED["float32"])


def test_a_part_of_a_larger_tensor_is_filled_and_its_neighbors_are_not(file):
    whole = torch.zeros(4, 3)
    with file.opened() as opened:
        opened.read_into("float32", whole[1:3])
    assert torch.equal(whole[1:3], STORED["float32"]) and not whole[[0, 3]].any()


def test_a_file_that_shrinks_while_it_is_read_is_named(file):
    with file.opened() as opened, file.path.open("r+b") as cut:
        cut.truncate(file.path.stat().st_size - 1)
        with pytest.raises(
            CheckpointError, match="w.safetensors is not a whole safetensors file .it ends within"
        ):
            for name in STORED:
                opened.read_into(name, torch.ones_like(STORED[name]))


FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float8_e5m2])
def test_values_are_finite_up_to_the_largest(dtype):
    limits = torch.finfo(dtype)
    for value in (0.0, -0.0, limits.max, limits.min, limits.tiny, -limits.tiny):
        assert are_finite(torch.tensor([1, value, -1], dtype=torch.float64).to(dtype)), value
    for value in (math.inf, -math.inf, math.nan, -math.nan):
        assert not are_finite(torch.tensor([1, value, -1], dtype=torch.float64).to(dtype)), value


@given(st.binary(min_size=8, max_size=64), st.sampled_from(FLOATS))
def test_of_any_bits_the_same_are_finite_as_torch_says(held, dtype):
    values = torch.frombuffer(bytearray(held[: len(held) // 8 * 8]), dtype=dtype)
    assert are_finite(values) == values.isfinite().all()
    assert are_finite(values[::2]) == values[::2].isfinite().all()


@pytest.mark.parametrize("where", [0, CHUNK // 2 - 1, CHUNK // 2, CHUNK + 2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_value_that_is_not_finite_is_found_in_every_chunk(tmp_path, where, dtype):
    values = torch.arange(CHUNK + 3).to(torch.bfloat16)
    values[where] = -math.inf
    save_file({"large": values}, tmp_path / "w.safetensors")
    place = torch.zeros(CHUNK + 3, dtype=dtype)
    with TensorFile(tmp_path / "w.safetensors").opened() as opened:
        assert not opened.read_into("large", place)
    assert torch.equal(place, values.to(dtype))
