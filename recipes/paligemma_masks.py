"""PaliGemma (arXiv 2407.07726) that writes the mask of an object as codes of its box and of the mask within it.

    perceptio explain paligemma_masks
    perceptio train paligemma_masks --out runs/paligemma_masks

docs/published.md says which numbers are from the paper, which from its code, and which are ours.
"""

import json

import attrs

from perceptio.backbones.language.hf import HFLanguageConfig
from perceptio.backbones.language.hf_text import BYTES, CHATML, NUM_BYTES
from perceptio.backbones.vision.timm import TimmConfig
from perceptio.heads.linear import LinearHeadConfig
from perceptio.interfaces import ChatTemplate
from perceptio.losses.code_tokens import CountConfig, MarkerConfig, TokenConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream, TrainConfig, WeightedLoss
from perceptio.tokenizers.perception.mask_codes import MaskCodesConfig

SIGLIP = "vit_so400m_patch14_siglip_gap_224.pali_pt"
"""The vision encoder of PaliGemma in timm."""
PALIGEMMA = "google/paligemma-3b-pt-224"
GEMMA = {
    "model_type": "gemma",
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "max_position_embeddings": 8192,
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "tie_word_embeddings": True,
    "vocab_size": 257_216,
}
"""The language model of PaliGemma, Gemma 2B."""
IDS = 257_153
"""The number of ids of its text tokenizer: Gemma's 256,000, 1024 locations, 128 mask codes, and `<image>`."""
TINY_GEMMA = {
    "head_dim": 8,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": NUM_BYTES,
}
BATCH = 256
EPOCHS, IMAGES = 10, 41_000
"""The number of passes over the images of RefCOCO, RefCOCO+ and RefCOCOg (ours)."""


def recipe() -> Recipe:
    """Return the published parts and sizes, at 224 pixels."""
    steps = EPOCHS * IMAGES // BATCH
    return Recipe(
        name="paligemma-masks",
        vision=TimmConfig(model=SIGLIP, weights=f"timm/{SIGLIP}"),
        vision_head=LinearHeadConfig(),
        language=HFLanguageConfig(
            model=json.dumps(GEMMA, sort_keys=True),
            text_vocab_size=IDS,
            template=ChatTemplate(user="", after_image="<bos>", assistant="\n", end="<eos>"),
            text_tokenizer_files=PALIGEMMA,
            weights=PALIGEMMA,
            gradient_checkpointing=True,
        ),
        streams=(Stream(name="masks", tokenizer=MaskCodesConfig(weights="runs/mask_codes")),),
        losses=(
            WeightedLoss(loss=NextTokenConfig(), weight=1.0),
            WeightedLoss(loss=MarkerConfig(stream="masks"), weight=1.0),
            WeightedLoss(loss=TokenConfig(stream="masks"), weight=1.0),
            WeightedLoss(loss=CountConfig(stream="masks"), weight=1.0),
        ),
        data=DataConfig(folders=(DataFolder(path="data/refcoco"),), mixture={"referring": 1.0}, turns=1),
        train=TrainConfig(
            steps=steps,
            micro_batch_size=8,
            # For one GPU; divide it by the number of GPUs to keep the batch size.
            grad_accumulation=BATCH // 8,
            lr=1e-5,
            weight_decay=0.0,
            warmup_steps=round(0.05 * steps),
            precision="bf16",
            train=("vision", "vision_head", "language"),
        ),
    )


def tiny() -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights."""
    paper = recipe()
    masks = attrs.evolve(
        paper.stream("masks").tokenizer,
        bins=32,
        codebook_size=16,
        grid=(2, 2),
        image_size=(8, 8),
        widths=(4, 8),
        latent_dim=4,
        weights=None,
    )
    return attrs.evolve(
        paper.with_stream("masks", tokenizer=masks),
        name="paligemma-masks-tiny",
        vision=attrs.evolve(paper.vision, model="test_vit", image_size=(32, 32), weights=None),
        language=attrs.evolve(
            paper.language,
            model=json.dumps(GEMMA | TINY_GEMMA, sort_keys=True),
            text_vocab_size=NUM_BYTES,
            text_tokenizer_files=str(BYTES),
            template=CHATML,
            weights=None,
        ),
        data=attrs.evolve(paper.data, folders=()),
        train=attrs.evolve(
            paper.train, steps=2, micro_batch_size=2, grad_accumulation=1, warmup_steps=1, log_every=1
        ),
    )
