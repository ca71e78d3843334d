"""Muon (Jordan et al. 2024): momentum, orthogonalized before it updates the parameter.

PyTorch's implementation computes in bfloat16. On a CPU without bfloat16 instructions, that takes more than ten times
as long as float32 (measured). This implementation computes in the precision of the gradient, and processes matrices
of the same shape together.

Shapes: M matrices of one shape, R rows, C columns.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of Muon's quintic; five steps bring every singular value between 0.7 and 1.2 (Jordan et al. 2024)."""
STEPS = (3, 2)
"""Steps to take on each Gram matrix. With all five steps on one matrix, small singular values would be lost."""


class Muon(Optimizer):
    """An optimizer with orthogonalized Nesterov momentum and decoupled weight decay, as in AdamW.

    Args:
        params: Parameters or parameter groups: matrices, or convolution kernels, which are treated as matrices with
            one row per output channel.
        lr: Learning rate. The update of a square matrix has singular values of about this size. For R rows and C < R
            columns, the update is larger by a factor of sqrt(R / C).
        weight_decay: Each step multiplies a parameter by 1 - lr * weight_decay.
        momentum: Weight of the past in the moving average of gradients.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure` is ignored."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in alike.items():
                averages = [self._momentum(parameter, group["momentum"]) for parameter in parameters]
                matrices_MRC = torch.stack(averages).flatten(2)
                scale = max(1.0, matrices_MRC.shape[1] / matrices_MRC.shape[2]) ** 0.5
                updates = orthogonalized(matrices_MRC).view(-1, *shape)
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """Update the moving average of gradients, and return its Nesterov look-ahead."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def orthogonalized(matrices_MRC: Tensor) -> Tensor:
    """Return the matrices with their singular values brought near 1 by Newton-Schulz iteration."""
    tall = matrices_MRC.shape[-2] > matrices_MRC.shape[-1]
    x = matrices_MRC.mT if tall else matrices_MRC
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    for steps in STEPS:
        x = _product_of_steps(x @ x.mT, steps) @ x
    return x.mT if tall else x


def _product_of_steps(gram_MRR: Tensor, steps: int) -> Tensor:
    """Return the matrices [M, R, R] by which `steps` steps multiply X, given its Gram matrix G = X X^T.

    Each step multiplies X by P = a + b G + c G^2, and G becomes P G P. If X is wide, these matrices are much smaller
    than X.
    """
    a, b, c = COEFFICIENTS
    product = torch.eye(gram_MRR.shape[-1], dtype=gram_MRR.dtype, device=gram_MRR.device).expand_as(gram_MRR)
    for step in range(steps):
        polynomial = torch.baddbmm(gram_MRR, gram_MRR, gram_MRR, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        product = polynomial @ product
        if step < steps - 1:
            gram_MRR = polynomial @ gram_MRR @ polynomial
    return product
