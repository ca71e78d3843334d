"""Safetensors files, whose tensors are described without values and read one by one."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from perceptio.errors import CheckpointError
from perceptio.ops.foreign import parsing

CHUNK = 2**20
"""Bytes to read at a time: few enough to stay in a core's cache, and a multiple of every dtype's size."""
_INFINITY = {
    torch.bfloat16: 0x7F80,
    torch.float16: 0x7C00,
    torch.float32: 0x7F80_0000,
    torch.float64: 0x7FF0_0000_0000_0000,
}
"""The bits of infinity (IEEE 754)."""


class TensorFile:
    """A safetensors file, checked by the safetensors library.

    Args:
        path: The file.

    Attributes:
        headers: The file's tensors by name, on the meta device, without values. Their dtypes tell only floating point
            numbers (float32) from integers (int64).

    Raises:
        CheckpointError: The file is missing or incomplete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._broken = f"{path} is not a whole safetensors file ({{reason}}); copy or train it again."
        with parsing(CheckpointError, self._broken):
            if not path.is_file():
                raise CheckpointError(f"There are no weights at {path}.")
            with safe_open(path, framework="pt") as tensors:
                self.headers = {name: _header(tensors.get_slice(name)) for name in tensors.keys()}  # noqa: SIM118

    @contextmanager
    def opened(self) -> Iterator["OpenTensorFile"]:
        """Open the file to read values from it."""
        with safe_open(self.path, framework="pt") as tensors, io.FileIO(self.path) as file:
            with parsing(CheckpointError, self._broken):
                size = int.from_bytes(file.read(8), "little")
                entries = json.loads(file.read(size))
                starts = {name: 8 + size + entries[name]["data_offsets"][0] for name in self.headers}
            yield OpenTensorFile(tensors, file, starts, self._broken)


class OpenTensorFile:
    """An open safetensors file; `TensorFile.opened` returns it."""

    def __init__(self, tensors: Any, file: io.FileIO, starts: dict[str, int], broken: str) -> None:
        self._tensors, self._file, self._starts, self._broken = tensors, file, starts, broken

    def read(self, name: str) -> Tensor:
        """Return a tensor, memory-mapped from the file."""
        with parsing(CheckpointError, self._broken):
            return self._tensors.get_tensor(name)

    def read_into(self, name: str, place: Tensor) -> bool:
        """Fill a tensor of the same shape with a tensor of the file; several threads may do so at once.

        If both have the same dtype, the bytes are read directly into place. A copy from the mapped file would hold
        them in memory twice.

        Returns:
            Whether all values are finite.
        """
        mapped, place = self.read(name), place.detach()
        if mapped.dtype != place.dtype or place.device.type != "cpu" or not place.is_contiguous():
            place.copy_(mapped)
            return are_finite(place)
        flat, finite = _flat(place), True
        bytes_N = flat.view(torch.uint8).numpy()
        size = flat.element_size()
        with parsing(CheckpointError, self._broken):
            for start in range(0, len(bytes_N), CHUNK):
                self._fill(name, start, bytes_N[start : start + CHUNK].data)
                # Check now, while the values are in the processor's cache.
                finite = are_finite(flat[start // size : (start + CHUNK) // size]) and finite
        return finite

    def _fill(self, name: str, start: int, left: memoryview) -> None:
        """Fill a buffer with a tensor's bytes, starting at byte `start`."""
        at = self._starts[name] + start
        while left:
            count = os.preadv(self._file.fileno(), [left], at)
            if not count:
                raise ValueError(f"it ends within {name}")
            left, at = left[count:], at + count


def are_finite(values: Tensor) -> bool:
    """Whether all values are finite numbers; always true for dtypes other than floating point."""
    if not values.is_floating_point() or not values.numel():
        return True
    if values.dtype not in _INFINITY or values.device.type != "cpu" or not values.is_contiguous():
        return bool(values.isfinite().all())
    # Among numbers of one sign, bits read as an integer sort by magnitude, and infinity is above all finite ones.
    infinity, sign = _INFINITY[values.dtype], 1 << (8 * values.element_size() - 1)
    bytes_N = _flat(values.detach()).view(torch.uint8).numpy()
    positive = bytes_N.view(f"i{values.element_size()}").max()
    negative = bytes_N.view(f"u{values.element_size()}").max()
    return bool(positive < infinity and negative < sign + infinity)


def _flat(contiguous: Tensor) -> Tensor:
    """Return a contiguous tensor as one dimension of stride 1; `view` may give a single element another stride."""
    return contiguous.as_strided((contiguous.numel(),), (1,))


def _header(lazy: Any) -> Tensor:
    """Return a tensor without values; its dtype tells only floating point numbers from integers."""
    floating = lazy.get_dtype().startswith(("F", "BF"))
    return torch.empty(lazy.get_shape(), device="meta", dtype=torch.float32 if floating else torch.int64)
