"""Attention against the float64 reference, forward and backward, at the heads of the models that are used.

    python benchmarks/gpu/parity.py --out FILE [--rehearse]

`packed` and `cached` are `perceptio.ops.attention` as training and generation call it, on whichever path it chooses;
`full` is the attention of vision encoders, which is PyTorch's. The last two are xformers' kernels by themselves, for
the masks of cached decoding and of vision; where there are none, that is said and no failure.

Shapes: B rows, T queries, S keys, Q heads, G heads of keys and values, E head width.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from steps import run_step
from torch import Tensor
from torch.nn import functional as F

from perceptio.backbones import internvl
from perceptio.backbones.vision.internvit import InternViTConfig
from perceptio.interfaces import SequenceLayout, text_positions
from perceptio.ops.attention import attention, chosen_path, reference
from perceptio.settings import load_recipe

ALLOWED = {torch.bfloat16: 2e-2, torch.float32: 1e-4}
"""Largest difference, in units of the largest value (ours; gradients are rounded once more than outputs)."""
LENGTHS = {False: (700, 37, 5, 128, 1, 256), True: (17, 5, 1)}
PASTS = {False: (0, 513, 77), True: (0, 6)}
NEW = 3
VISION_SLOTS = {False: 1025, True: 17}
"""A tile of 448 pixels in patches of 14, and the class token."""
Heads = tuple[int, int, int]
Found = tuple[Tensor, ...]


def heads_of_models() -> dict[str, Heads]:
    """Heads, heads of keys and values, and head width, by model."""
    qwens = {"qwen2.5-0.5b": internvl.QWEN2_5_05B, "qwen2.5-3b": internvl.QWEN2_5_3B}
    others = {"qwen2.5-7b": internvl.QWEN2_5_7B, "internlm2.5-7b": internvl.INTERNLM2_5_7B}
    heads = {
        name: (sizes["num_attention_heads"], sizes["num_key_value_heads"], _width(sizes))
        for name, sizes in (qwens | others).items()
    }
    vision: Any = InternViTConfig()
    heads["internvit-300m"] = (vision.num_heads, vision.num_heads, vision.hidden_dim // vision.num_heads)
    ours: Any = load_recipe("perceptio_tiny").language
    return heads | {"ours": (ours.num_heads, ours.num_kv_heads, ours.hidden_dim // ours.num_heads)}


def measure(device: torch.device, rehearse: bool) -> dict[str, Any]:
    """Every model, mask and precision; one that raises is a failure like one that differs."""
    cases: list[dict[str, Any]] = []
    for model, heads in heads_of_models().items():
        for dtype, allowed in ALLOWED.items():
            for mask, check in checks(device, dtype, heads, rehearse).items():
                case: dict[str, Any] = {"model": model, "heads": heads, "mask": mask, "dtype": str(dtype)}
                case["path"] = chosen_path(device.type, dtype, heads[2]) if mask == "packed" else mask
                try:
                    case |= check()
                except Exception as error:
                    case["error"] = repr(error)
                found = [case[part] for part in ("forward", "backward") if part in case]
                case["agrees"] = bool(found) and all(difference <= allowed for difference in found)
                cases.append(case)
                print(case)
    wrong = [f"{c['model']} {c['mask']} {c['dtype']}" for c in cases if not c["agrees"]]
    paths = sorted({case["path"] for case in cases if case["mask"] == "packed"})
    kernels = sum(case["mask"].startswith("xformers") for case in cases)
    summary = f"{len(cases) - len(wrong)} of {len(cases)} agree; packed attention runs on {', '.join(paths)}"
    summary += "" if kernels else "; xformers has no kernels here"
    summary += f"; differ: {', '.join(wrong)}" if wrong else ""
    return {"summary": summary, "cases": cases, "wrong": wrong}


def checks(
    device: torch.device, dtype: torch.dtype, heads: Heads, rehearse: bool
) -> Mapping[str, Callable[[], dict[str, float]]]:
    """What is checked, by the name of its mask."""
    draw = partial(_draw, device=device, dtype=dtype, heads=heads)
    lengths, pasts = LENGTHS[rehearse], torch.tensor(PASTS[rehearse], device=device)
    packed = SequenceLayout.packed(text_positions(0, sum(lengths), 1).to(device), lengths)
    positions = pasts[None, :, None] + torch.arange(NEW, device=device).float()
    extent = max(PASTS[rehearse]) + NEW
    cached = SequenceLayout.cached(positions, pasts, extent)
    seen, slots = VISION_SLOTS[rehearse], 64 if rehearse else 512
    last = SequenceLayout.cached(positions[:, :1], torch.tensor([slots - NEW], device=device), slots)
    found: dict[str, Callable[[], dict[str, float]]] = {
        "packed": lambda: compare(
            draw(1, sum(lengths), sum(lengths)), partial(_ours, packed), partial(_ours_slowly, packed)
        ),
        "cached": lambda: compare(
            draw(len(pasts), NEW, extent + 9), partial(_ours, cached), partial(_ours_slowly, cached), False
        ),
        "full": lambda: compare(draw(2, seen, seen), _torch_full, _slow_full),
    }
    if _xformers_runs(device, dtype, heads):
        from xformers.ops.fmha.attn_bias import LowerTriangularFromBottomRightMask as Causal

        found["xformers, bottom-right causal"] = lambda: compare(
            draw(1, NEW, slots), partial(_xformers, Causal()), partial(_ours_slowly, last)
        )
        found["xformers, full"] = lambda: compare(draw(2, seen, seen), partial(_xformers, None), _slow_full)
    return found


def compare(
    inputs: Found, fast: Callable[..., Tensor], slow: Callable[..., Tensor], backward: bool = True
) -> dict[str, float]:
    """Largest differences between a path and its reference in float64, relative to the largest value."""
    exact = tuple(x.detach().double().requires_grad_() for x in inputs)
    out, truth = fast(*inputs), slow(*exact)
    found = {"forward": _difference(out, truth)}
    if backward:
        weights = torch.randn_like(out)
        mine = torch.autograd.grad((out * weights).sum(), inputs)
        theirs = torch.autograd.grad((truth * weights).sum(), exact)
        found["backward"] = max(_difference(*pair) for pair in zip(mine, theirs, strict=True))
    return found


def _ours(layout: SequenceLayout, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q, k, v, layout)


def _ours_slowly(layout: SequenceLayout, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    keys = slice(0, None if layout.lengths else layout.max_keys)
    return reference(q, k[:, keys], v[:, keys], layout)


def _torch_full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1]).transpose(1, 2)


def _slow_full(q_BTQE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> Tensor:
    k_BSQE, v_BSQE = (x.repeat_interleave(q_BTQE.shape[2] // x.shape[2], 2) for x in (k_BSGE, v_BSGE))
    scores = torch.einsum("btqe,bsqe->bqts", q_BTQE, k_BSQE) * q_BTQE.shape[-1] ** -0.5
    return torch.einsum("bqts,bsqe->btqe", scores.softmax(-1), v_BSQE)


def _xformers(bias: object, q_BTQE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor) -> Tensor:
    from xformers.ops import memory_efficient_attention

    k_BSQE, v_BSQE = (x.repeat_interleave(q_BTQE.shape[2] // x.shape[2], 2) for x in (k_BSGE, v_BSGE))
    return memory_efficient_attention(q_BTQE, k_BSQE, v_BSQE, attn_bias=bias)


def _xformers_runs(device: torch.device, dtype: torch.dtype, heads: Heads) -> bool:
    return chosen_path(device.type, dtype, heads[2]) == "xformers"


def _draw(
    rows: int, queries: int, keys: int, *, device: torch.device, dtype: torch.dtype, heads: Heads
) -> Found:
    generator = torch.Generator(device).manual_seed(0)
    shapes = ((rows, queries, heads[0]), (rows, keys, heads[1]), (rows, keys, heads[1]))
    return tuple(
        torch.randn(*shape, heads[2], generator=generator, device=device, dtype=dtype).requires_grad_()
        for shape in shapes
    )


def _difference(found: Tensor, truth: Tensor) -> float:
    return float((found.detach().double() - truth.detach()).abs().max() / truth.detach().abs().max())


def _width(sizes: Mapping[str, Any]) -> int:
    return int(sizes["hidden_size"] // sizes["num_attention_heads"])


if __name__ == "__main__":
    sys.exit(bool(run_step(measure)["wrong"]))
