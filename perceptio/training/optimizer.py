"""Optimizers: AdamW, Muon for chosen matrices, their schedule, and their state as safetensors."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from perceptio.errors import CheckpointError, RecipeError
from perceptio.model.groups import by_group
from perceptio.model.network import PerceptionNetwork
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import parse_json
from perceptio.recipe import TrainConfig
from perceptio.training.muon import Muon

UNREACHED = "unreached"
"""Key of the file's metadata: a JSON list of parameters without state."""
STEP = "step"
MOMENTS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: (STEP, "exp_avg", "exp_avg_sq"),
    Muon: ("momentum_buffer",),
}
"""State that each optimizer keeps for a parameter: a count of steps, and tensors of the parameter's shape."""


class Optimizers:
    """AdamW for trained parameters, and Muon for the matrices of the groups in `TrainConfig.muon`.

    Muon (Jordan et al. 2024) orthogonalizes each update of a matrix, so that directions that few samples need move as
    fast as directions that all samples share. Weight decay does not apply to vectors and vocabulary rows.

    Args:
        model: The model; parameters that require gradients are trained.
        config: Learning rates and weight decay.

    Raises:
        RecipeError: No parameter is trained, or a trained parameter is not float32.
    """

    def __init__(self, model: PerceptionNetwork, config: TrainConfig) -> None:
        self.model = model
        groups = model.parameter_groups()
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise RecipeError(
                f"The parameter groups {', '.join(config.train)} of train.train hold nothing that could be trained; "
                "name others."
            )
        scales = by_group(model, config.lr_scale)
        matrix_lr = muon_rates(model, config)
        exempt = {id(p) for name, ps in groups.items() if name.endswith("vocabulary") for p in ps}
        adamw: dict[tuple[float, float], list[nn.Parameter]] = {}
        muon: dict[float, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.dtype != torch.float32:
                raise RecipeError(
                    f"{name} is to train and its weights are {str(parameter.dtype).removeprefix('torch.')}, in which "
                    'small steps are rounded away: build its part in float32 (train.precision="bf16" computes in '
                    "bfloat16 all the same), or leave it out of train."
                )
            if id(parameter) in matrix_lr:
                muon.setdefault(matrix_lr[id(parameter)], []).append(parameter)
                continue
            lr = config.lr * scales.get(id(parameter), 1.0)
            decay = 0.0 if parameter.ndim < 2 or id(parameter) in exempt else config.weight_decay
            adamw.setdefault((lr, decay), []).append(parameter)
        self._all: list[torch.optim.Optimizer] = []
        if adamw:
            settings = [
                {"params": parameters, "weight_decay": decay, "peak_lr": lr}
                for (lr, decay), parameters in adamw.items()
            ]
            self._all.append(torch.optim.AdamW(settings, lr=config.lr, betas=config.betas, fused=True))
        if muon:
            settings = [{"params": parameters, "peak_lr": lr} for lr, parameters in muon.items()]
            self._all.append(Muon(settings, weight_decay=config.weight_decay))

    def set_learning_rates(self, share: float) -> None:
        """Set the learning rate of every group to this share of its peak."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * share

    def step(self) -> None:
        """Update the parameters, and clear their gradients."""
        for optimizer in self._all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def save(self, path: Path) -> None:
        """Write the moments and step counts of every trained parameter by its name.

        Parameters that no loss has reached so far have no state; the file's metadata lists their names.
        """
        tensors = {
            f"{name}/{key}": value.contiguous()
            for optimizer in self._all
            for name, parameter in self.model.named_parameters()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        reached = {key.rpartition("/")[0] for key in tensors}
        unreached = [
            name for name, p in self.model.named_parameters() if p.requires_grad and name not in reached
        ]
        save_file(tensors, path, metadata={UNREACHED: json.dumps(unreached)})

    def load(self, path: Path) -> None:
        """Load the state that `save` wrote.

        Raises:
            CheckpointError: The file is missing or broken, lacks a trained parameter, or has a state for it that its
                optimizer does not keep.
        """
        with (
            parsing(CheckpointError, f"{path} cannot be read ({{reason}}); train again without --resume."),
            safe_open(path, framework="pt") as file,
        ):
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            unreached = set(parse_json((file.metadata() or {}).get(UNREACHED, "[]")))
        states: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            name, _, moment = key.rpartition("/")
            states.setdefault(name, {})[moment] = value
        owners = {
            id(p): optimizer for optimizer in self._all for g in optimizer.param_groups for p in g["params"]
        }
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad or name in unreached:
                continue
            if name not in states:
                raise CheckpointError(f"{path} has no state for {name}; train again without --resume.")
            owner = owners[id(parameter)]
            if not _is_state(states[name], parameter, MOMENTS[type(owner)]):
                raise CheckpointError(
                    f"{path} has another state for {name} than {type(owner).__name__} keeps; train again without "
                    "--resume."
                )
            # This includes the count of steps: fused AdamW, unlike the others, keeps it on the parameter's device.
            owner.state[parameter] = {key: value.to(parameter.device) for key, value in states[name].items()}


def muon_rates(model: PerceptionNetwork, config: TrainConfig) -> dict[int, float]:
    """Return the peak learning rate of every matrix that Muon updates, by the id of the parameter."""
    matrices = {id(parameter) for parameter in model.parameters() if parameter.ndim >= 2}
    return {key: lr for key, lr in by_group(model, config.muon).items() if key in matrices}


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then the schedule."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "stable_decay":
        going_down = max(round(config.decay * config.steps), 1)
        return min((config.steps - step) / going_down, 1.0)
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def _is_state(held: Mapping[str, torch.Tensor], parameter: nn.Parameter, moments: tuple[str, ...]) -> bool:
    """Return whether `held` has exactly an optimizer's moments for a parameter, all of them finite."""
    shapes = {name: torch.Size() if name == STEP else parameter.shape for name in moments}
    return {name: value.shape for name, value in held.items()} == shapes and all(
        value.dtype == torch.float32 and bool(value.isfinite().all()) for value in held.values()
    )
