"""Map the tensor names of timm's DINOv2 to those in transformers checkpoints, such as Meta's own."""

import re
from collections.abc import Mapping

from torch import Tensor

MASK_TOKEN = "embeddings.mask_token"
"""A tensor of pretraining, which timm's models do not have."""
MARK = "embeddings.position_embeddings"
"""A tensor by which such a checkpoint is recognized."""

NAMES = {
    r"^cls_token$": "embeddings.cls_token",
    r"^pos_embed$": MARK,
    r"^patch_embed\.proj\.": "embeddings.patch_embeddings.projection.",
    r"^norm\.": "layernorm.",
    r"^blocks\.": "encoder.layer.",
    r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.ls(\d)\.gamma$": r".layer_scale\1.lambda1",
}
QKV = re.compile(r"\.attn\.qkv\.")


def names_in_transformers(name: str) -> tuple[str, ...]:
    """Return the names for one tensor of timm: three for joint queries, keys and values, otherwise one."""
    for pattern, theirs in NAMES.items():
        name = re.sub(pattern, theirs, name)
    if QKV.search(name):
        return tuple(QKV.sub(f".attention.attention.{one}.", name) for one in ("query", "key", "value"))
    return (name,)


def by_names_in_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's tensors by the names of transformers; joint tensors are split into views."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        theirs = names_in_transformers(name)
        found.update(zip(theirs, tensor.chunk(len(theirs)) if len(theirs) > 1 else (tensor,), strict=True))
    return found
