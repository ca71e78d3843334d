"""This library's attention inside transformers models, through their `AttentionInterface`.

Build a model with `attn_implementation=register()` and call it with `layout=` and, to keep keys, `kept=`: extra
keyword arguments reach the attention of every layer. transformers makes no mask for an implementation it does not
know, and its own caches are not used (`use_cache=False`).

Shapes: B rows, T new slots, S kept keys, Q heads, G heads of keys and values, E head width.
"""

from typing import Any

from torch import Tensor, nn

from perceptio.errors import RecipeError
from perceptio.interfaces import SequenceLayout
from perceptio.ops.attention import attention
from perceptio.ops.kv_cache import KeyValueCache

NAME = "perceptio"


def register() -> str:
    """Register `attention` with transformers.

    Returns:
        The name to pass as `attn_implementation`.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    return NAME


def visible_extent(layout: SequenceLayout) -> int:
    """Return the maximum number of keys that any slot can see, without asking the device."""
    return max(layout.lengths) if layout.lengths else layout.max_keys


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    layout: SequenceLayout | None = None,
    kept: KeyValueCache | None = None,
    **asked: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, called by transformers with heads before slots; returns slots before heads."""
    if layout is None:
        raise RecipeError(f"{type(module).__name__} runs on attention:{NAME} without a layout; pass layout=.")
    unmet = [name for name in ("softcap", "s_aux", "position_bias") if asked.get(name) is not None]
    unmet += ["attention_mask"] * (attention_mask is not None) + ["dropout"] * (dropout > 0)
    unmet += ["is_causal=False"] * (asked.get("is_causal", getattr(module, "is_causal", True)) is False)
    if sliding_window is not None and visible_extent(layout) > sliding_window:
        unmet.append(f"sliding_window={sliding_window} over {visible_extent(layout)} slots")
    if unmet:
        raise RecipeError(
            f"{type(module).__name__} asks attention for {', '.join(unmet)}, which is not done here; choose a model "
            "or settings without it."
        )
    q_BTQE, k_BSGE, v_BSGE = (x.transpose(1, 2) for x in (query, key, value))
    if kept is not None:
        assert isinstance(module.layer_idx, int)
        k_BSGE, v_BSGE = kept.write(module.layer_idx, k_BSGE, v_BSGE, layout)
    usual = q_BTQE.shape[-1] ** -0.5
    if scaling is not None and abs(scaling - usual) > 1e-9 * usual:
        q_BTQE = q_BTQE * (scaling / usual)
    # Under autocast, rotated queries and keys are float32 again; values keep the requested precision.
    dtype = value.dtype
    return attention(q_BTQE.to(dtype), k_BSGE.to(dtype), v_BSGE.to(dtype), layout), None
