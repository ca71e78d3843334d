"""AdamW by parameter group, its schedule, and its state as safetensors."""

import math
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from perceptio.errors import CheckpointError, UnknownNameError
from perceptio.model.perception_model import PerceptionModel
from perceptio.recipe import TrainConfig


def build_optimizer(model: PerceptionModel, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what trains; vectors and vocabulary rows are exempt from weight decay.

    Raises:
        UnknownNameError: `lr_scale` names a part that the model has not.
    """
    parts = {name for name, _ in model.named_children()}
    for name in config.lr_scale:
        if name not in parts:
            raise UnknownNameError(
                f"lr_scale names the part {name!r}, which the model has not; there are: {', '.join(sorted(parts))}."
            )
    exempt = {
        id(p) for name, ps in model.parameter_groups().items() if name.endswith("vocabulary") for p in ps
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = config.lr_scale.get(name.split(".")[0], 1.0)
        decay = 0.0 if parameter.ndim < 2 or id(parameter) in exempt else config.weight_decay
        groups.setdefault((scale, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "peak_lr": config.lr * scale}
            for (scale, decay), parameters in groups.items()
        ],
        lr=config.lr,
        betas=config.betas,
        fused=True,
    )


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """The share of the peak learning rate at a step: linear warm-up, then a cosine to zero."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def save_optimizer(path: Path, model: PerceptionModel, optimizer: torch.optim.Optimizer) -> None:
    """Write the moments and step counts of every trained parameter by its name."""
    tensors = {
        f"{name}/{key}": value.contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    save_file(tensors, path)


def load_optimizer(path: Path, model: PerceptionModel, optimizer: torch.optim.Optimizer) -> None:
    """Read back what `save_optimizer` wrote.

    Raises:
        CheckpointError: The file is missing or broken, or lacks a parameter that trains.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({error}); train again without --resume.") from error
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = {
            key.rsplit("/", 1)[1]: value for key, value in tensors.items() if key.rsplit("/", 1)[0] == name
        }
        if not state:
            raise CheckpointError(f"{path} has no state for {name}; train again without --resume.")
        step = state.pop("step")
        optimizer.state[parameter] = {"step": step} | {k: v.to(parameter.device) for k, v in state.items()}
