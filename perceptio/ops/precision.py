"""Which precision a device computes in natively."""

import torch


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
