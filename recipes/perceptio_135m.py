"""The paper's Perceptio for one modest GPU: SmolLM2-135M, DINOv2-small and SAM 2.1 tiny, fewer than 250 M parameters.

    perceptio explain perceptio_135m
    perceptio train perceptio_135m --set 'data.folders=["data/coco"]' --out runs/135m

SmolLM2-135M-Instruct, DINOv2-small and SAM 2.1 are licensed under Apache-2.0, and so is Depth Anything V2 small, a
depth teacher. The depth tokenizer is trained first, on the maps of the data. DINOv2's features at 448 pixels are
averaged to a 16x16 grid, so an image takes 256 tokens, as many as a tile of InternVL.

Losses and their weights are those of perceptio_8b.py. Batch, steps and learning rate are ours and not tuned. So is
the choice to train the whole language model without LoRA and gradient checkpointing, which such a small model does
not need. No checkpoint gives the projector, so it starts from zeros: the outputs of a random one hide the question
from the language model (measured, docs/real_data.md).

`--arg masks=pixel_features` replaces SAM 2: prompts are compared with per-pixel features, which a small network
learns from the image and DINOv2's features of it. This network and the head before it start from random values. They
train as in perceptio_tiny.py: with Muon, and with its weights of the mask losses.
"""

import json
from typing import Literal

import attrs

from perceptio.backbones.language.hf import HFLanguageConfig
from perceptio.backbones.language.hf_text import BYTES, NUM_BYTES
from perceptio.backbones.vision.timm import TimmConfig
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.interfaces import SegmentationTokenizerConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig
from perceptio.recipe import DataFolder, Recipe
from perceptio.settings import load_recipe
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM2_SETTINGS = {
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 576,
    "initializer_range": 0.02,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
    "tie_word_embeddings": True,
    "vocab_size": 49_152,
}
"""Its config.json. `HFLanguageConfig.from_pretrained(SMOLLM2)` reads the same one from the hub."""

DINOV2 = "vit_small_patch14_dinov2.lvd142m"
Masks = Literal["sam2", "pixel_features"]
MASKS_BY_MUON = ("streams.segmentation.head", "streams.segmentation.tokenizer.image_encoder")
"""The parameter groups that Muon trains with per-pixel features.

The common component of the hidden states of all expressions is several times larger than their differences. AdamW
follows the common component until all masks are equal and empty; Muon updates both at the same rate.
"""
MASK_WEIGHTS = {MaskBCEConfig.name: 16.0, DiceConfig.name: 6.0}
"""The weights of the mask losses with per-pixel features, as in perceptio_tiny.py."""


def recipe(masks: Masks = "sam2") -> Recipe:
    """Return the paper's composition at 135M.

    Args:
        masks: The segmentation tokenizer: SAM 2.1 tiny, whose decoder is trained, or per-pixel features with DINOv2.
    """
    base = load_recipe("perceptio_8b.py", beside=__file__)
    vision = TimmConfig(model=DINOV2, weights=f"timm/{DINOV2}", image_size=(448, 448), grid=(16, 16))
    tokenizers: dict[str, SegmentationTokenizerConfig] = {
        "sam2": SAM2SegmentationConfig(size="tiny", weights="facebook/sam2.1-hiera-tiny"),
        "pixel_features": PixelFeaturesConfig(
            image_size=(448, 448),
            widths=(32, 64, 128, 256),
            feature_dim=64,
            backbone=attrs.evolve(vision, grid=None),
        ),
    }
    depth = attrs.evolve(base.stream("depth").tokenizer, weights=None)
    weights = MASK_WEIGHTS if masks == "pixel_features" else {}
    return attrs.evolve(
        base.with_stream("segmentation", tokenizer=tokenizers[masks]).with_stream("depth", tokenizer=depth),
        name="perceptio-135m",
        vision=vision,
        vision_head=MLPHeadConfig(zero_start=True),
        language=HFLanguageConfig(
            model=json.dumps(SMOLLM2_SETTINGS, sort_keys=True),
            text_vocab_size=SMOLLM2_SETTINGS["vocab_size"],
            text_tokenizer_files=SMOLLM2,
            weights=SMOLLM2,
        ),
        losses=tuple(attrs.evolve(one, weight=weights.get(one.loss.name, one.weight)) for one in base.losses),
        data=attrs.evolve(
            base.data,
            folders=(DataFolder(path="data/coco"),),
            mixture={"referring": 1.0, "depth_map": 1.0, "relative_depth": 1.0},
        ),
        train=attrs.evolve(
            base.train,
            steps=5000,
            micro_batch_size=8,
            grad_accumulation=4,
            lr=2e-4,
            muon=dict.fromkeys(MASKS_BY_MUON, 0.02) if masks == "pixel_features" else {},
            warmup_steps=250,
            train=("vision_head", "language", "streams.segmentation.head", *_trained(masks)),
            save_pretrained_weights=True,
        ),
    )


def tiny(masks: Masks = "sam2") -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights, to show that they work together.

    Args:
        masks: The segmentation tokenizer.
    """
    whole, small = recipe(masks), load_recipe("perceptio_8b.py:tiny", beside=__file__)
    sizes = json.loads(small.language.model)
    settings = {name: sizes.get(name, value) for name, value in SMOLLM2_SETTINGS.items()}
    settings |= {name: SMOLLM2_SETTINGS[name] for name in ("model_type", "rms_norm_eps", "rope_parameters")}
    vision = attrs.evolve(whole.vision, weights=None, image_size=(28, 28), grid=(2, 2))
    tokenizers: dict[str, SegmentationTokenizerConfig] = {
        "sam2": small.stream("segmentation").tokenizer,
        "pixel_features": PixelFeaturesConfig(
            image_size=(28, 28), widths=(8, 8), feature_dim=8, backbone=attrs.evolve(vision, grid=None)
        ),
    }
    return attrs.evolve(
        whole.with_stream("segmentation", tokenizer=tokenizers[masks]).with_stream(
            "depth", tokenizer=small.stream("depth").tokenizer
        ),
        name="perceptio-135m-tiny",
        vision=vision,
        language=attrs.evolve(
            whole.language,
            model=json.dumps(settings, sort_keys=True),
            text_vocab_size=NUM_BYTES,
            text_tokenizer_files=str(BYTES),
            weights=None,
        ),
        data=small.data,
        train=attrs.evolve(
            whole.train, steps=2, micro_batch_size=2, grad_accumulation=1, warmup_steps=1, log_every=1
        ),
    )


def _trained(masks: Masks) -> tuple[str, ...]:
    """Return the parameter groups of the segmentation tokenizer that train."""
    groups = {"sam2": ("mask_decoder",), "pixel_features": ("image_encoder", "mask_decoder")}
    return tuple(f"streams.segmentation.tokenizer.{group}" for group in groups[masks])
