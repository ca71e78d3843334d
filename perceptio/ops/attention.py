"""Attention over a sequence layout, with xformers, with PyTorch alone, or as a slow reference.

On CUDA, packed samples use xformers' memory-efficient kernels with a block-diagonal causal bias. On other devices,
PyTorch's scaled_dot_product_attention is called once per sample length, so that no time is spent on pairs of
different samples. With a cache, all rows share one call with a mask. xformers is not used then: its biases need every
length on the host, and reading the lengths would synchronize with the device at every token.

The environment variable `PERCEPTIO_ATTENTION` selects a path: `xformers`, `sdpa` or `reference`. No other file of the
library imports xformers.

Shapes: B rows, T queries, S keys, Q query heads, G key and value heads (G divides Q), E head width.
"""

import ctypes
import functools
import logging
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import InputError
from perceptio.interfaces import SequenceLayout

logger = logging.getLogger(__name__)

VARIABLE = "PERCEPTIO_ATTENTION"
PATHS = ("xformers", "sdpa", "reference")


def attention(q_BTQE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, layout: SequenceLayout) -> Tensor:
    """Return the causal attention [B, T, Q, E] of new slots to the keys that the layout lets them see.

    Args:
        q_BTQE: Queries.
        k_BSGE: Keys. For a packed layout, the keys of the same slots (S == T); for a cached layout, the whole cache,
            which already includes the keys of the new slots.
        v_BSGE: Values, for the same slots as the keys.
        layout: Which slots see which keys.

    Raises:
        InputError: `PERCEPTIO_ATTENTION` is not the name of a path, or that path cannot run here.
    """
    path = chosen_path(q_BTQE.device.type, q_BTQE.dtype, q_BTQE.shape[-1])
    if layout.lengths is None:
        k_BSGE, v_BSGE = k_BSGE[:, : layout.max_keys], v_BSGE[:, : layout.max_keys]
    if path == "reference":
        return reference(q_BTQE, k_BSGE, v_BSGE, layout)
    if layout.lengths is None:
        return _sdpa(q_BTQE, k_BSGE, v_BSGE, mask_BTS=_once_per_layout(layout, _visible))
    if path == "xformers":
        return _xformers(q_BTQE, k_BSGE, v_BSGE, layout)
    if q_BTQE.device.type != "cpu":
        return _segments(q_BTQE, k_BSGE, v_BSGE, layout)
    dtype = q_BTQE.dtype
    if dtype == torch.bfloat16:
        # PyTorch's CPU kernel is slower in bfloat16 than in float32; its backward pass takes several times as long.
        q_BTQE, k_BSGE, v_BSGE = q_BTQE.float(), k_BSGE.float(), v_BSGE.float()
    with torch.autocast("cpu", enabled=False):  # Autocast would convert them back to bfloat16.
        return _segments(q_BTQE, k_BSGE, v_BSGE, layout).to(dtype)


def reference(q_BTQE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, layout: SequenceLayout) -> Tensor:
    """Compute the same as `attention` in plain steps over every pair, at the precision of the inputs."""
    groups = q_BTQE.shape[2] // k_BSGE.shape[2]
    k_BSQE, v_BSQE = (x.repeat_interleave(groups, 2) for x in (k_BSGE, v_BSGE))
    scores_BQTS = torch.einsum("btqe,bsqe->bqts", q_BTQE, k_BSQE) * q_BTQE.shape[-1] ** -0.5
    hidden_B1TS = ~_visible(layout)[:, None, :, : k_BSGE.shape[1]]
    return torch.einsum(
        "bqts,bsqe->btqe", scores_BQTS.masked_fill(hidden_B1TS, -torch.inf).softmax(-1), v_BSQE
    )


@functools.cache
def chosen_path(device: str, dtype: torch.dtype, head_width: int) -> str:
    """Return the path that is used for tensors of this kind, and log it once with the reason.

    Store it with a measurement, because the paths differ in speed and rounding.

    Raises:
        InputError: `PERCEPTIO_ATTENTION` is not the name of a path, or that path cannot run here.
    """
    asked = os.environ.get(VARIABLE)
    if asked is not None and asked not in PATHS:
        raise InputError(f"{VARIABLE} is {asked!r}; the attention paths are {', '.join(PATHS)}.")
    kernels, found = (None, "") if asked in ("sdpa", "reference") else _kernels(device, dtype, head_width)
    if asked == "xformers" and kernels is None:
        raise InputError(
            f"{VARIABLE} asks for xformers, which cannot serve this: {found}. Unset it, or use sdpa."
        )
    path = asked or ("xformers" if kernels else "sdpa")
    reason = f"{VARIABLE} asks for it" if asked else found
    logger.info("attention on %s in %s: %s (%s)", device, dtype, path, reason)
    return path


@functools.cache
def _kernels(device: str, dtype: torch.dtype, head_width: int) -> tuple[tuple[Any, Any] | None, str]:
    """Return xformers' forward and backward kernels for packed samples, and their names; or None and the reason.

    They are chosen once. By default, xformers checks one kernel after another at every call.
    """
    if device != "cuda":
        return None, f"xformers has no kernel for {device}"
    try:
        fmha = _import_fmha()
    except ImportError as error:
        return None, f"xformers cannot be imported ({error})"
    return _fitting_kernels(fmha, torch.empty(1, 16, 2, head_width, device=device, dtype=dtype))


def _import_fmha() -> Any:
    """Import the attention module of xformers, loading CUDA 12's runtime first.

    The extension of xformers is linked against that runtime. With a torch built for CUDA 13, it does not find the
    runtime and is not loaded. Then every kernel refuses to run, including torch's own kernels that xformers calls.
    """
    try:
        import nvidia

        for folder in nvidia.__path__:
            for runtime in Path(folder).glob("cuda_runtime/lib/libcudart.so.12"):
                ctypes.CDLL(str(runtime))
    except (ImportError, OSError) as error:
        logger.info("CUDA 12's runtime, which xformers needs, cannot be loaded: %s", error)
    from xformers.ops import fmha

    return fmha


def _fitting_kernels(fmha: Any, q_BTQE: Tensor) -> tuple[tuple[Any, Any] | None, str]:
    """Return the first pair of kernels that supports packed samples forward and backward; see `_kernels`.

    The order is xformers' own: FlashAttention before CUTLASS. CUTLASS supports float32 and older GPUs, and is slower
    where both run. Both kernels are of the same kind, because a backward kernel reads the softmax sums in the layout
    that its own forward kernel writes.
    """
    bias = fmha.attn_bias.BlockDiagonalCausalMask.from_seqlens([8, 8], device=q_BTQE.device)
    inputs = fmha.Inputs(query=q_BTQE, key=q_BTQE, value=q_BTQE, attn_bias=bias)
    reasons = []
    for kind in (fmha.flash3, fmha.flash, fmha.cutlass, fmha.ck):
        against = {op.NAME: op.not_supported_reasons(inputs) for op in (kind.FwOp, kind.BwOp)}
        if not any(against.values()):
            return (kind.FwOp, kind.BwOp), f"xformers has {' and '.join(against)}"
        reasons += [f"{name}: {', '.join(why)}" for name, why in against.items() if why]
    return None, "; ".join(reasons)


def _xformers(q_BTQE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, layout: SequenceLayout) -> Tensor:
    from xformers.ops import memory_efficient_attention

    groups = q_BTQE.shape[2] // k_BSGE.shape[2]
    if groups > 1:
        # Repeat grouped heads, because the kernels' own grouping has no backward pass.
        k_BSGE, v_BSGE = (x.repeat_interleave(groups, 2) for x in (k_BSGE, v_BSGE))
    kernels, _ = _kernels(q_BTQE.device.type, q_BTQE.dtype, q_BTQE.shape[-1])
    bias = _once_per_layout(layout, _block_diagonal)
    return memory_efficient_attention(q_BTQE, k_BSGE, v_BSGE, attn_bias=bias, op=kernels)


def _segments(q_BTQE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, layout: SequenceLayout) -> Tensor:
    """Attend within each packed sample; samples of the same length share a call."""
    assert layout.lengths is not None
    q_parts, k_parts, v_parts = (x.split(layout.lengths, 1) for x in (q_BTQE, k_BSGE, v_BSGE))
    out = list(q_parts)
    for alike in _once_per_layout(layout, _samples_by_length):
        if len(alike) == 1:
            (only,) = alike
            out[only] = _sdpa(q_parts[only], k_parts[only], v_parts[only])
            continue
        together = (torch.cat([parts[i] for i in alike]) for parts in (q_parts, k_parts, v_parts))
        for i, one in zip(alike, _sdpa(*together).split(1), strict=True):
            out[i] = one
    return torch.cat(out, 1)


def _sdpa(q_BTQE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, mask_BTS: Tensor | None = None) -> Tensor:
    """PyTorch's attention: causal within one segment, or under a mask."""
    q_BQTE, k_BGSE, v_BGSE = (x.transpose(1, 2) for x in (q_BTQE, k_BSGE, v_BSGE))
    out_BQTE = F.scaled_dot_product_attention(
        q_BQTE,
        k_BGSE,
        v_BGSE,
        attn_mask=None if mask_BTS is None else mask_BTS[:, None],
        is_causal=mask_BTS is None,
        enable_gqa=q_BTQE.shape[2] != k_BSGE.shape[2],
    )
    return out_BQTE.transpose(1, 2)


_PREPARED: weakref.WeakKeyDictionary[SequenceLayout, dict[Callable, Any]] = weakref.WeakKeyDictionary()


def _once_per_layout(layout: SequenceLayout, prepare: Callable[[SequenceLayout], Any]) -> Any:
    """Return a value derived from a layout, computed in the first layer and kept as long as the layout exists."""
    prepared = _PREPARED.setdefault(layout, {})
    if prepare not in prepared:
        prepared[prepare] = prepare(layout)
    return prepared[prepare]


def _samples_by_length(layout: SequenceLayout) -> list[list[int]]:
    """Return the indices of packed samples, grouped by length."""
    alike: dict[int, list[int]] = {}
    for number, length in enumerate(layout.lengths or ()):
        alike.setdefault(length, []).append(number)
    return list(alike.values())


def _block_diagonal(layout: SequenceLayout):
    from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask

    return BlockDiagonalCausalMask.from_seqlens(
        list(layout.lengths or ()), device=layout.positions_ABT.device
    )


def _visible(layout: SequenceLayout) -> Tensor:
    """Return which keys each new slot sees, as booleans [B, T, S]."""
    device, count = layout.positions_ABT.device, layout.positions_ABT.shape[-1]
    if layout.lengths is not None:
        lengths = torch.tensor(layout.lengths, device=device)
        sample_T = torch.repeat_interleave(lengths, output_size=count)
        return ((sample_T[:, None] == sample_T) & torch.ones(count, count, device=device).tril().bool())[None]
    assert layout.past_B is not None
    last_key_BT = layout.past_B[:, None] + torch.arange(count, device=device)
    return torch.arange(layout.max_keys, device=device) <= last_key_BT[..., None]
