"""The option `--device` of verbs that run a model."""

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch


class Device(StrEnum):
    """Where a model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


DeviceOption = Annotated[
    Device, typer.Option(help="Device to run the model on; auto uses a GPU if there is one.")
]


def chosen(device: Device) -> "torch.device":
    """Return the device that an option selects.

    Raises:
        InputError: PyTorch does not find the device.
    """
    import torch

    from perceptio.errors import InputError

    there = [Device.CPU]
    there += [Device.CUDA] * torch.cuda.is_available() + [Device.MPS] * torch.backends.mps.is_available()
    if device is Device.AUTO:
        return torch.device(there[-1])
    if device not in there:
        raise InputError(
            f"--device {device} is asked for, and PyTorch finds none here: it finds {' and '.join(there)}."
        )
    return torch.device(device)


def of_this_rank(device: "torch.device") -> "torch.device":
    """Return this process's own GPU if torchrun started it; any other device unchanged."""
    import torch

    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
