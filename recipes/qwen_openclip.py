"""Perceptio on backbones that the paper does not use: Qwen2.5-1.5B with a CLIP tower of open_clip.

The projector between them is not pretrained, so train it alone first (as LLaVA does):

    perceptio train qwen_openclip --set 'train.train=["vision_head"]' --set 'data.mixture={"chat": 1}' --out runs/1

Tokenizers, losses, data and all other training settings are as in perceptio_8b.py.
"""

import json

import attrs

from perceptio.backbones.language.hf import HFLanguageConfig
from perceptio.backbones.vision.open_clip import OpenCLIPConfig
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.recipe import Recipe
from perceptio.settings import load_recipe

QWEN = "Qwen/Qwen2.5-1.5B-Instruct"
QWEN_SETTINGS = {
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 1536,
    "initializer_range": 0.02,
    "intermediate_size": 8960,
    "max_position_embeddings": 32768,
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151_936,
}
"""Its config.json. `HFLanguageConfig.from_pretrained(QWEN)` reads the same one from the hub."""


def recipe() -> Recipe:
    """Return the paper's method on Qwen2.5 and CLIP."""
    base = load_recipe("perceptio_8b.py", beside=__file__)
    return attrs.evolve(
        base,
        name="qwen-openclip",
        vision=OpenCLIPConfig(
            model="ViT-L-14",
            tag="datacomp_xl_s13b_b90k",
            layer=-2,
            image_size=(336, 336),
            dtype="bfloat16",
        ),
        vision_head=MLPHeadConfig(),
        language=HFLanguageConfig(
            model=json.dumps(QWEN_SETTINGS, sort_keys=True),
            text_vocab_size=151_665,
            text_tokenizer_files=QWEN,
            weights=QWEN,
            dtype="bfloat16",
            lora=base.language.lora,
            gradient_checkpointing=True,
        ),
    )


def tiny() -> Recipe:
    """Return the same parts at sizes for a CPU, with random weights."""
    base = load_recipe("perceptio_8b.py:tiny", beside=__file__)
    sizes = json.loads(base.language.model)
    settings = {name: sizes.get(name, value) for name, value in QWEN_SETTINGS.items()}
    settings |= {name: QWEN_SETTINGS[name] for name in ("model_type", "rms_norm_eps", "tie_word_embeddings")}
    return attrs.evolve(
        base,
        name="qwen-openclip-tiny",
        vision=OpenCLIPConfig(model="ViT-S-32-alt", layer=1, image_size=(64, 64), dtype="bfloat16"),
        language=attrs.evolve(base.language, model=json.dumps(settings, sort_keys=True)),
    )
