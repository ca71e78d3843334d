"""Memory of training: the plan before it starts, the peak of a step, and advice when it runs out."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import attrs
import torch
from torch import Tensor

from perceptio.errors import TrainingError
from perceptio.model.network import PerceptionNetwork
from perceptio.recipe import TrainConfig
from perceptio.training.optimizer import muon_rates

GIB = 2**30
LIBRARIES = 9 * GIB // 10
"""Memory that a process that trains on a CPU holds besides tensors: Python and libraries. Measured on Linux with
torch 2.14, as the peak of a training at tiny sizes minus that of its tensors."""


@attrs.frozen(kw_only=True)
class MemoryPlan:
    """Bytes that are held between steps, on one device.

    Not included, because they depend on the batch and the kernels: activations and the copies made by autocast, which
    `foretold.foretell` counts; cached keys and values; and the device's own context.

    Attributes:
        weights: Parameters and buffers of every part; inference needs no more.
        gradients: One value for every trained parameter.
        optimizer: Two moments of AdamW, or the single one of Muon, for every trained parameter.
    """

    weights: int
    gradients: int
    optimizer: int

    @classmethod
    def of(cls, model: PerceptionNetwork, config: TrainConfig) -> "MemoryPlan":
        """Return the plan of a model, which may be on the meta device."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        muon = muon_rates(model, config)
        return cls(
            weights=_bytes(model.parameters()) + _bytes(model.buffers()),
            gradients=_bytes(trained),
            optimizer=2 * _bytes(trained) - _bytes(p for p in trained if id(p) in muon),
        )

    @property
    def training(self) -> int:
        """Total bytes for training."""
        return self.weights + self.gradients + self.optimizer


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return the metric of peak memory in GiB: on CUDA since the last call, elsewhere of the whole process so far."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return {"peak_cuda_gib": peak / GIB}
    if sys.platform == "win32":
        return {}
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_resident_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB}


@contextmanager
def advice_when_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Turn the device's out-of-memory error into one that says what to change.

    Raises:
        TrainingError: The device has too little memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        advice = [
            f"lower train.micro_batch_size ({config.micro_batch_size}) and raise train.grad_accumulation "
            f"({config.grad_accumulation})",
            "set train.precision=bf16",
            "turn on gradient checkpointing where a part offers it",
            "train fewer groups (train.train)",
        ]
        if config.micro_batch_size == 1:
            del advice[0]
        if config.precision == "bf16":
            advice.remove("set train.precision=bf16")
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise TrainingError(
            f"The device ran out of memory ({reason}): {', or '.join(advice)}. What was saved before is kept."
        ) from error


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
