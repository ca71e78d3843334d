"""RMSNorm (arXiv 1910.07467) over the last dimension, with a fast backward pass on a CPU.

PyTorch has a fused kernel for it on a GPU. On a CPU it composes RMSNorm of elementwise operations, whose backward
pass reads and writes the whole tensor a dozen times.

Shapes: D width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` with a weight, computed by `rms_norm`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized vectors [..., D], in the precision of `x` [..., D]."""
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight_D: Tensor, eps: float | None = None) -> Tensor:
    """Divide vectors by their root mean square, and multiply them by a weight.

    Args:
        x: Vectors [..., D].
        weight_D: The weight, in any precision.
        eps: Added to the mean square; None: the machine epsilon of the precision in which it is computed.

    Returns:
        The vectors [..., D], in the precision of `x`.
    """
    if x.device.type != "cpu":
        return F.rms_norm(x, weight_D.shape, weight_D.to(x.dtype), eps)
    computed_in = torch.promote_types(x.dtype, torch.float32)
    result: Tensor = _RMSNorm.apply(
        x, weight_D.to(computed_in), torch.finfo(computed_in).eps if eps is None else eps
    )
    return result


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=weight_D.dtype)
        inverse = (norm.square() / x.shape[-1] + eps).rsqrt()
        ctx.save_for_backward(x, inverse, weight_D)
        return ((x * inverse) * weight_D).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        # LayerNorm's fused kernel, with a mean of zero. It subtracts the mean gradient, which is added again.
        x, inverse, weight_D = ctx.saved_tensors
        x_gradient, weight_gradient_D, _ = torch.ops.aten.native_layer_norm_backward(
            gradient,
            x,
            weight_D.shape,
            torch.zeros_like(inverse),
            inverse,
            weight_D,
            None,
            [True, True, False],
        )
        mean = (gradient.to(weight_D.dtype) @ weight_D)[..., None] / x.shape[-1]
        return x_gradient + (inverse * mean).to(x.dtype), weight_gradient_D, None
