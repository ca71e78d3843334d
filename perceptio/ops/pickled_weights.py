"""Read pickled PyTorch weights without running the code that a pickle may name."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from perceptio.errors import CheckpointError
from perceptio.ops.foreign import MeasuredFile, parsing


def read_pickled(file: Path) -> Any:
    """Return the contents of a `.pt` or `.bin` file, memory-mapped if its layout allows it.

    Raises:
        CheckpointError: The file is missing or broken, or its pickle asks to run code.
    """
    broken = f"{file} is not a whole PyTorch file ({{reason}}); copy or download it again."
    with parsing(CheckpointError, broken):
        if not file.is_file():
            raise CheckpointError(f"There are no weights at {file}.")
        zipped = zipfile.is_zipfile(file)
        if zipped and any(one.file_size > one.compress_size for one in zipfile.ZipFile(file).infolist()):
            raise ValueError("it is compressed, which PyTorch's files are not")
        try:
            return _load_zipped(file) if zipped else _load_plain(file)
        except pickle.UnpicklingError as error:
            raise _unpickling_error(file, error) from error


def _load_zipped(file: Path) -> Any:
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def _load_plain(file: Path) -> Any:
    """Return the contents of a file in the layout used before PyTorch 1.6.

    Tensors larger than the file are refused before any memory is allocated for them.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._pytree import tree_leaves

    size = file.stat().st_size
    with MeasuredFile(file) as opened, FakeTensorMode():
        held = torch.load(opened, map_location="cpu", weights_only=True)
    for tensor in tree_leaves(held):
        if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() > size:
            raise ValueError(
                f"a tensor of {tensor.untyped_storage().nbytes():,} bytes in a file of {size:,} bytes"
            )
    with MeasuredFile(file) as opened:
        return torch.load(opened, map_location="cpu", weights_only=True)


def _unpickling_error(file: Path, error: pickle.UnpicklingError) -> Exception:
    """Return an error with the line of torch's message that names what was found.

    The rest of that message recommends running the code.
    """
    lines = str(error).split("WeightsUnpickler error: ")[-1].strip().splitlines() or [type(error).__name__]
    reason = next((line for line in lines if "GLOBAL" in line), lines[0])
    if "Unsupported operand" in reason:
        return ValueError(reason)
    return CheckpointError(
        f"{file} holds more than tensors: its pickle asks to run code, which is never done ({reason[:200]}). Save "
        "its state dict alone where it comes from."
    )


def is_state_dict(held: Any) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether a value read from a file maps names to tensors whose values are all stored in the file."""
    return isinstance(held, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) and _is_stored(value)
        for name, value in held.items()
    )


def _is_stored(value: Tensor) -> bool:
    """Whether a tensor is no larger than its storage, unlike a small tensor expanded to a large one."""
    return (
        value.layout is torch.strided
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )
