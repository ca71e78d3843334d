"""Which precision a device computes in natively, and which one a part computes in."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from perceptio.errors import RecipeError, quoted

Precision = Literal["float32", "bfloat16", "float16"]
"""What the weights of a frozen part can be held in."""


def published_precision(stated: Any) -> Precision:
    """The precision that a published configuration states for its weights, as its text or a `torch.dtype`.

    Raises:
        RecipeError: It is another, which a part cannot hold.
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
    """Whether matrix products in bfloat16 are at least as fast on a device as in float32.

    On a CPU this asks for instructions made for it (AVX512-BF16 or AMX on x86), without which PyTorch computes
    slowly; a PyTorch that cannot tell counts as having none.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def brought_to(part: nn.Module, x: Tensor) -> Tensor:
    """A tensor in the precision of a part's weights, and unchanged where the part has none.

    Parts may be of different precisions, and a whole model may be brought to another one: whatever enters a part goes
    through here. Autocast, which has a precision of its own for what it computes, is not disturbed.
    """
    weight = next((parameter for parameter in part.parameters() if parameter.is_floating_point()), None)
    return x if weight is None else x.to(weight.dtype)
