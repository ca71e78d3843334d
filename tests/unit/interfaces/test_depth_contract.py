"""What goes into and comes out of a depth tokenizer is held to its interface, whoever wrote it."""

import pytest
import torch
from fakes import FakeDepth, FakeDepthConfig

from perceptio.errors import DataError, InterfaceError

SPEC = FakeDepthConfig().spec  # 8 codes on a 4x4 grid, 16x16 pixels.
MAPS = torch.full((2, 1, 16, 16), 0.5)
CODES = torch.full((2, 16), 3)


def with_pixel(value):
    maps = MAPS.clone()
    maps[0, 0, 3, 5] = value
    return maps


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (with_pixel(float("inf")), r"goes from 0.5 to inf and not from 0 to 1.*from_map"),
        (with_pixel(-float("inf")), r"goes from -inf to 0.5"),
        (10 * MAPS, r"goes from 5 to 5 and not from 0 to 1"),
        (with_pixel(-0.25), r"goes from -0.25 to 0.5"),
        (MAPS[0], r"is float32 \[1, 16, 16\] and not floating-point \[B, 1, 16, 16\].*resize_maps"),
        (MAPS[..., :8], r"is float32 \[2, 1, 16, 8\]"),
        (MAPS.long(), r"is int64 \[2, 1, 16, 16\]"),
    ],
)
def test_what_is_no_depth_is_refused(given, message):
    with pytest.raises(DataError, match=f"^FakeDepth.encode was given depth that {message}"):
        FakeDepth(SPEC).encode(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (CODES - 4, r"go from -1 to -1 and not from 0 to 7; -1 says that there is no code"),
        (CODES + 5, r"go from 8 to 8 and not from 0 to 7"),
        (CODES.float(), r"are float32 \[2, 16\] and not int64 \[N, 16\]"),
        (CODES.int(), r"are int32 \[2, 16\]"),
        (CODES[:, 1:], r"are int64 \[2, 15\]"),
    ],
)
def test_what_are_no_codes_is_refused(given, message):
    with pytest.raises(DataError, match=f"^FakeDepth.decode was given codes that {message}"):
        FakeDepth(SPEC).decode(given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_ends_of_the_range_and_what_rounding_adds_are_depth(dtype):
    """NaN is unknown, and half precision is no reason to refuse."""
    maps = torch.tensor([0.0, 1.0, 1.0004, float("nan")]).repeat(64).view(1, 1, 16, 16).to(dtype)
    assert FakeDepth(SPEC).encode(maps).shape == (1, 16)
    assert FakeDepth(SPEC).encode(MAPS[:0]).shape == (0, 16)
    assert FakeDepth(SPEC).decode(CODES[:0]).shape == (0, 1, 16, 16)


class Liar(FakeDepth):
    """Encodes and decodes to whatever it is told."""

    def __init__(self, made):
        super().__init__(SPEC)
        self.made = made

    def encode(self, depth_B1HW):
        return self.made

    def decode(self, codes_BL):
        return self.made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (CODES + 45, "Liar.encode made codes that go from 48 to 48 and not from 0 to 7"),
        (CODES.float(), "Liar.encode made codes that are float32"),
        (None, "Liar.encode made codes that are None and no tensor"),
        (
            torch.zeros(2, 4, 4).long(),
            r"Liar.encode made codes that are int64 \[2, 4, 4\] and not int64 \[N, 16\]",
        ),
    ],
)
def test_codes_that_break_the_promise_are_found_where_they_are_made(made, message):
    with pytest.raises(InterfaceError, match=message):
        Liar(made).encode(MAPS)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (MAPS * float("nan"), "Liar.decode made depth that has NaN"),
        (MAPS * 3, "Liar.decode made depth that goes from 1.5 to 1.5"),
        (MAPS[0], r"Liar.decode made depth that is float32 \[1, 16, 16\]"),
    ],
)
def test_depth_that_breaks_the_promise_is_found_where_it_is_made(made, message):
    with pytest.raises(InterfaceError, match=message):
        Liar(made).decode(CODES)


def test_on_the_meta_device_shapes_are_checked_and_values_are_not():
    tokenizer = FakeDepth(SPEC).to("meta")
    assert tokenizer.decode(CODES.to("meta")).shape == (2, 1, 16, 16)
    with pytest.raises(DataError, match=r"are int64 \[2, 15\]"):
        tokenizer.decode(CODES[:, 1:].to("meta"))
