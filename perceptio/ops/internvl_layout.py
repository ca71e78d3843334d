"""The names of tensors in InternVL checkpoints, and in checkpoints of its three parts.

Published checkpoints use either the names of their own code (`vision_model.`, `mlp1.`, `language_model.`; with fused
keys, queries and values) or those of transformers' `-hf` conversions (`vision_tower.`, `multi_modal_projector.`,
`language_model.`), which have the prefix `model.` since transformers 4.52. No name is ambiguous, so a checkpoint need
not say which it uses. Each function here maps a tensor to its place in transformers' model of a part, or returns None
if it belongs to another part.
"""

import re
from collections.abc import Sequence

from torch import Tensor

from perceptio.ops.weights import Slice

VISION = re.compile(r"(vision_model\.|(model\.)?vision_tower\.)")
PROJECTOR = re.compile(r"(mlp1\.|(model\.)?multi_modal_projector\.)")
LANGUAGE = re.compile(r"(model\.)?language_model\.")

VISION_NAMES = {
    r"class_embedding$": "cls_token",
    r"position_embedding$": "position_embeddings",
    r"patch_embedding\.": "patch_embeddings.projection.",
    r"encoder\.layers\.": "encoder.layer.",
    r"\.attn\.proj\.": ".attention.projection_layer.",
    r"\.attn\.": ".attention.",
    r"\.norm1\.": ".layernorm_before.",
    r"\.norm2\.": ".layernorm_after.",
    r"\.ls(\d)$": r".lambda_\1",
}
PROJECTOR_NAMES = {r"layer_norm\.": "0.", r"linear_1\.": "1.", r"linear_2\.": "3."}
INTERNLM2_NAMES = {
    r"tok_embeddings\.": "embed_tokens.",
    r"\.attention\.wo\.": ".self_attn.o_proj.",
    r"\.attention\.wqkv\.": ".self_attn.qkv.",
    r"\.feed_forward\.w1\.": ".mlp.gate_proj.",
    r"\.feed_forward\.w2\.": ".mlp.down_proj.",
    r"\.feed_forward\.w3\.": ".mlp.up_proj.",
    r"\.attention_norm\.": ".input_layernorm.",
    r"\.ffn_norm\.": ".post_attention_layernorm.",
}


def vision(name: str) -> str | Sequence[Slice] | None:
    """Return the place of a tensor in an `InternVLVisionModel`; the model's own checkpoints have no prefix."""
    if PROJECTOR.match(name) or LANGUAGE.match(name) or name == "lm_head.weight":
        return None
    name = _renamed(VISION.sub("", name, count=1), VISION_NAMES)
    if ".qkv." not in name:
        return name
    return [_third(name.replace(".qkv.", f".{letter}_proj."), place) for place, letter in enumerate("qkv")]


def projector(name: str) -> str | None:
    """Return the place of a tensor in the projector's layers: norm 0, linear 1, linear 3."""
    return _renamed(PROJECTOR.sub("", name), PROJECTOR_NAMES) if PROJECTOR.match(name) else None


def language(name: str, num_heads: int, num_kv_heads: int) -> str | Sequence[Slice] | None:
    """Return the place of a tensor in a causal language model of transformers whose trunk is `model.`.

    InternLM2's tensors are placed as in Llama. Its `wqkv` holds, for each head of keys and values, the heads of
    queries that share it, then the keys, then the values.
    """
    if VISION.match(name) or PROJECTOR.match(name) or name.endswith("rotary_emb.inv_freq"):
        # Old checkpoints include the rotary frequencies, which are computed here.
        return None
    name = LANGUAGE.sub("", name, count=1).removeprefix("model.")
    name = _renamed(name, INTERNLM2_NAMES)
    if name in ("lm_head.weight", "output.weight"):
        return "lm_head.weight"
    name = f"model.{name}"
    if ".self_attn.qkv." not in name:
        return name
    shared = num_heads // num_kv_heads
    heads = {"q": slice(0, shared), "k": slice(shared, shared + 1), "v": slice(shared + 1, shared + 2)}
    return [
        _heads(name.replace(".qkv.", f".{letter}_proj."), num_kv_heads, shared + 2, which)
        for letter, which in heads.items()
    ]


def _renamed(name: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        name = re.sub(old, new, name)
    return name


def _third(name: str, place: int) -> Slice:
    return Slice(name, lambda fused: fused.unflatten(0, (3, -1))[place])


def _heads(name: str, groups: int, in_group: int, which: slice) -> Slice:
    def take(fused: Tensor) -> Tensor:
        return fused.unflatten(0, (groups, in_group, -1))[:, which].flatten(0, 2)

    return Slice(name, take)
