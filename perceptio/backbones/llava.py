"""LLaVA-1.5 (arXiv 2310.03744) as three parts: CLIP's vision encoder, a projector and Vicuna.

    Recipe(vision=vision(), vision_head=projector("1.5-7b"), language=language("1.5-7b"), ...)

Projector and language model are read from one of the `-hf` checkpoints on the hub, or a folder in this format. The
vision encoder is OpenAI's, which LLaVA-1.5 does not train. Keyword arguments change any field of a part's config, for
instance `weights=None` for random values. Images are resized to 336x336 pixels; LLaVA-1.5 instead pads them to
squares.
"""

import json
from collections.abc import Mapping
from typing import Any

from perceptio.backbones.language.hf import HFLanguageConfig
from perceptio.backbones.vision.open_clip import OpenCLIPConfig
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.interfaces import ChatTemplate

TEMPLATE = ChatTemplate(
    start=(
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions."
    ),
    user="USER:",
    after_image="\n",
    assistant="ASSISTANT:",
    end="</s>",
)
"""The template of Vicuna. The text tokenizer adds a space before each string."""

LLAMA = {
    "model_type": "llama",
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "tie_word_embeddings": False,
    "vocab_size": 32_064,
}
IDS = 32_002
"""The number of ids of its text tokenizer: Vicuna's 32,000, `<image>` and `<pad>`. Other rows are padding."""


def _sizes(width: int, feed_forward: int, layers: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
    }


SIZES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "1.5-7b": ("llava-hf/llava-1.5-7b-hf", LLAMA | _sizes(4096, 11008, 32, 32)),
    "1.5-13b": ("llava-hf/llava-1.5-13b-hf", LLAMA | _sizes(5120, 13824, 40, 40)),
}
"""The hub id and the language model of each size."""


def vision(**settings: Any) -> OpenCLIPConfig:
    """Create the config of CLIP's ViT-L/14 at 336 pixels; it gives the 576 features before the last layer.

    Args:
        **settings: Fields of the config to change.
    """
    found: dict[str, Any] = {"model": "ViT-L-14-336", "tag": "openai", "layer": -2, "dtype": "bfloat16"}
    return OpenCLIPConfig(**found | settings)


def projector(which: str, **settings: Any) -> MLPHeadConfig:
    """Create the config of the projector: two linear maps with a GELU between them.

    Args:
        which: A size in `SIZES`.
        **settings: Fields of the config to change.
    """
    found: dict[str, Any] = {"norm": False, "weights": SIZES[which][0]}
    return MLPHeadConfig(**found | settings)


def language(which: str, **settings: Any) -> HFLanguageConfig:
    """Create the config of the language model, with its text tokenizer and chat template.

    Args:
        which: A size in `SIZES`.
        **settings: Fields of the config to change, such as `lora`.
    """
    repository, model = SIZES[which]
    found: dict[str, Any] = {
        "model": json.dumps(model, sort_keys=True),
        "text_vocab_size": IDS,
        "template": TEMPLATE,
        "text_tokenizer_files": repository,
        "weights": repository,
        "dtype": "bfloat16",
    }
    return HFLanguageConfig(**found | settings)
