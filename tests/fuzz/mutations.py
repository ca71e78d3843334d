"""Mutants of valid files: of their bytes, of the chunks of a PNG, and of the values of their JSON."""

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

TOKENS = (
    b"",
    b"\0" * 8,
    b"\xff" * 8,
    b"\x89PNG\r\n\x1a\n",
    b"PK\x03\x04aaaa",
    b"Exif\0\0II*\0",
    b"Exif\0\0MM\0*",
    b"IHDR",
    b"eXIf",
    b"acTL",
    b"\xff\xd8\xff\xe1",
    b"GIF89a",
    b"RIFF",
    b"\x93NUMPY\x01\0",
    b"(True, 4)",
    b"(3,",
    b"(4294967296, 4294967296)",
    b"'O'",
    b"\x80\x04cos\nsystem\n",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"\n",
    b"\xe2\x80\xa8",
    b"NaN",
    b"1e400",
    b"\\ud800",
    b"{" * 80,
    b"[" * 100_000,
)
"""What parsers look for, and what has broken one before."""

EXTREMES = (0, 1, -1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, -0x80000000, 60_000, 1_000_000)

RAW = "<raw>"
"""Stands in a document for JSON that no Python value is written as."""
RAW_VALUES = ("NaN", "-Infinity", "1e400", "9" * 400, "9" * 5000, '"\\ud800"', "[" * 100_000, "tru", "")

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 2**64 - 1, -(2**63), 0.5, -0.0, 1e-300, 1e308),
    *(
        "",
        "a",
        "x" * 5000,
        "../../etc/passwd",
        "/etc/passwd",
        "a\\b",
        "nul\0",
        "\n",
        "\u2028",
        "[SEG]",
        "depth:fsq",
    ),
    *([], [[]], {}, [0, 0], [-1, -1], [2**31, 2**31], {"": None}, {"a": {"b": [1]}}, list(range(300))),
)


@st.composite
def byte_mutants(draw: Any, seeds: Sequence[bytes]) -> bytes:
    """A seed with up to four changes: a bit, a byte, a number, a cut, a token, a piece twice, a piece of another."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2, 3, 4]))):
        # Headers are where sizes and kinds stand.
        reach = draw(st.sampled_from([min(64, len(data)), len(data)]))
        place = draw(st.integers(0, reach))
        kind = draw(st.sampled_from(["bit", "byte", "number", "cut", "remove", "token", "repeat", "splice"]))
        if kind == "bit" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif kind == "number":
            order = draw(st.sampled_from(["<i", ">i", "<h", ">h"]))
            value = draw(st.sampled_from(EXTREMES))
            size = struct.calcsize(order)
            value &= (1 << 8 * size) - 1
            data[place : place + size] = struct.pack(order.upper(), value)
        elif kind == "cut":
            del data[place:]
        elif kind == "remove":
            del data[place : place + draw(st.integers(1, 16))]
        elif kind == "token":
            data[place:place] = draw(st.sampled_from(TOKENS))
        elif kind == "repeat":
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
        elif kind == "splice":
            other = draw(st.sampled_from(seeds))
            data[place:] = other[draw(st.integers(0, len(other))) :]
    if data.startswith(b"\x89PNG") and draw(st.sampled_from([True, True, False])):
        data = with_checksums(bytes(data))
    return bytes(data)


def with_checksums(png: bytes) -> bytearray:
    """The chunks of a PNG with the checksums that they should have, so that a parser reads on."""
    result, place = bytearray(png[:8]), 8
    while place + 12 <= len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        chunk = png[place + 4 : place + 8 + length]
        result += png[place : place + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        place += 12 + length
    return result + png[place:]


@st.composite
def json_mutants(draw: Any, seeds: Sequence[Any]) -> bytes:
    """A document in which up to three values are others, gone, doubled, or called otherwise."""
    document = json.loads(json.dumps(draw(st.sampled_from(seeds))))
    raw = None
    for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2, 3]))):
        holders = list(_holders(document))
        if not holders:
            break
        holder = draw(st.sampled_from(range(len(holders))))
        inner = holders[holder]
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        key = draw(st.sampled_from(keys))
        kind = draw(
            st.sampled_from(["value", "value", "value", "near", "raw", "remove", "double", "rename", "wrap"])
        )
        if kind == "value":
            inner[key] = json.loads(json.dumps(draw(st.sampled_from(VALUES))))
        elif kind == "near" and type(inner[key]) in (int, float):
            inner[key] += draw(st.sampled_from([-1, 1, 0.5, -(2**20), 2**20]))
        elif kind == "raw":
            inner[key], raw = RAW, draw(st.sampled_from(RAW_VALUES))
        elif kind == "remove":
            del inner[key]
        elif kind == "double" and isinstance(inner, list):
            inner.append(inner[key])
        elif kind == "rename" and isinstance(inner, dict):
            inner[draw(st.sampled_from(["", "a.b", "nmae", f"{key} ", str(key).upper()]))] = inner.pop(key)
        elif kind == "wrap":
            inner[key] = draw(st.sampled_from([lambda held: [held], lambda held: {"a": held}, str]))(
                inner[key]
            )
    ascii_only = draw(st.booleans())
    text = json.dumps(document, ensure_ascii=ascii_only)
    return text.replace(json.dumps(RAW, ensure_ascii=ascii_only), raw or "null").encode()


def _holders(value: Any) -> Any:
    """Every list and object in a document that holds something."""
    if isinstance(value, dict | list) and value:
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)
