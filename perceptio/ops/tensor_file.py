"""A safetensors file: its tensors without values, and their values one by one."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from perceptio.errors import CheckpointError
from perceptio.ops.foreign import parsing


class TensorFile:
    """A safetensors file, checked by the safetensors library.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is missing or not whole.
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
        """The file, to read values from."""
        with safe_open(self.path, framework="pt") as tensors, io.FileIO(self.path) as file:
            with parsing(CheckpointError, self._broken):
                size = int.from_bytes(file.read(8), "little")
                entries = json.loads(file.read(size))
                starts = {name: 8 + size + entries[name]["data_offsets"][0] for name in self.headers}
            yield OpenTensorFile(tensors, file, starts, self._broken)


class OpenTensorFile:
    """What `TensorFile.opened` gives."""

    def __init__(self, tensors: Any, file: io.FileIO, starts: dict[str, int], broken: str) -> None:
        self._tensors, self._file, self._starts, self._broken = tensors, file, starts, broken

    def read(self, name: str) -> Tensor:
        """A tensor, mapped from the file."""
        with parsing(CheckpointError, self._broken):
            return self._tensors.get_tensor(name)

    def read_into(self, name: str, place: Tensor) -> None:
        """Fill a tensor of the same shape.

        Of one dtype, the bytes are read into place: copied from the mapped file, they would be in memory twice.
        """
        mapped = self.read(name)
        if mapped.dtype != place.dtype or place.device.type != "cpu" or not place.is_contiguous():
            place.copy_(mapped)
            return
        left = place.detach().view(-1).view(torch.uint8).numpy().data
        self._file.seek(self._starts[name])
        with parsing(CheckpointError, self._broken):
            while left:
                count = self._file.readinto(left)
                if not count:
                    raise ValueError(f"it ends within {name}")
                left = left[count:]


def _header(lazy: Any) -> Tensor:
    """A tensor without values; of its dtype, only whether it is a floating point number matters."""
    floating = lazy.get_dtype().startswith(("F", "BF"))
    return torch.empty(lazy.get_shape(), device="meta", dtype=torch.float32 if floating else torch.int64)
