"""The precisions that a device supports natively, and the precision of a part of a model."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from perceptio.errors import RecipeError, quoted

Precision = Literal["float32", "bfloat16", "float16"]
"""Data types for the weights of a frozen part."""


def published_precision(stated: Any) -> Precision:
    """Return the precision that a published configuration states for its weights, as text or a `torch.dtype`.

    Raises:
        RecipeError: It is another precision, which parts do not support.
    """
    name = "float32" if stated is None else str(stated).removeprefix("torch.")
    for known in get_args(Precision):
        if name == known:
            return known
    raise RecipeError(
        f"The checkpoint states weights in {quoted(name)}, and a part holds them in {', '.join(get_args(Precision))}"
        ': convert them, or choose with dtype="float32".'
    )


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether matrix products in bfloat16 are at least as fast on a device as in float32.

    A CPU needs special instructions (AVX512-BF16 or AMX on x86), without which PyTorch computes slowly. If PyTorch
    cannot tell, the CPU counts as having none.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def brought_to(part: nn.Module, x: Tensor) -> Tensor:
    """Return a tensor in the precision of a part's weights; unchanged if the part has none.

    Parts may have different precisions, and a whole model may be converted to another one, so every input of a part
    is converted here. This does not affect autocast, which chooses its own precision for operations.
    """
    weight = next((parameter for parameter in part.parameters() if parameter.is_floating_point()), None)
    return x if weight is None else x.to(weight.dtype)
