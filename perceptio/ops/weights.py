"""Weights as safetensors: written atomically, read strictly, never unpickled."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from perceptio.errors import CheckpointError

WEIGHTS = "model.safetensors"


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends well.

    On any error the temporary folder is removed and what was there before is untouched.

    Raises:
        CheckpointError: The disk is full or the place cannot be written.
    """
    folder = Path(folder)
    new, old = folder.with_name(f".{folder.name}.new-{os.getpid()}"), folder.with_name(f".{folder.name}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        yield new
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise CheckpointError(_why(error, folder)) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def write_weights(module: nn.Module, path: Path) -> None:
    """Write a module's parameters and buffers.

    Raises:
        CheckpointError: The disk is full or the place cannot be written.
    """
    tensors = {name: value.detach().contiguous().cpu() for name, value in module.state_dict().items()}
    try:
        save_file(tensors, path)
    except Exception as error:
        raise CheckpointError(_why(error, path)) from error


def read_weights(module: nn.Module, path: Path) -> None:
    """Fill a module with the tensors of a file, each of them, or none.

    Raises:
        CheckpointError: The file is missing or broken, or its tensors are not the module's: all are named.
    """
    if not path.exists():
        raise CheckpointError(f"There are no weights at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}); copy or train it again."
        ) from error
    wanted: dict[str, Tensor] = dict(module.state_dict())
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not a part of this model" for name in found if name not in wanted]
    problems += [
        f"{name} has shape {tuple(found[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {'; '.join(problems)}.")
    with torch.no_grad():
        module.load_state_dict(found, assign=False)


def _why(error: Exception, path: Path) -> str:
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    reason = "the disk is full" if full else str(error)
    return f"{path} could not be written: {reason}. What was there before is untouched."
