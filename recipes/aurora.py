"""AURORA (arXiv 2412.03548): LLaVA-1.5 that writes depth as codes, reads them out and answers which point is closest.

    perceptio explain aurora
    perceptio train aurora --out runs/aurora

docs/published.md says which numbers are from the paper, which from its code, and which are ours.
"""

import json

import attrs

from perceptio.backbones import llava
from perceptio.backbones.language.hf import LoRA
from perceptio.backbones.language.hf_text import BYTES, CHATML, NUM_BYTES
from perceptio.losses.code_tokens import CountConfig, MarkerConfig, TokenConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream, TrainConfig, WeightedLoss
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig

SAMPLES = 200_000
"""Ten passes over 20,000 samples. The share of depth maps falls from 100% to 10%, so there are 110,000 of them."""
BATCH = 128
"""16 on each of 8 GPUs. The paper does not state the number of GPUs (8 is ours)."""
TINY_LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": NUM_BYTES,
}


def recipe(size: str = "1.5-13b") -> Recipe:
    """Return the published composition.

    Args:
        size: The size of LLaVA: "1.5-7b" or "1.5-13b".
    """
    steps = SAMPLES // BATCH
    return Recipe(
        name="aurora",
        vision=llava.vision(),
        vision_head=llava.projector(size),
        language=llava.language(size, lora=LoRA(rank=128, alpha=256), gradient_checkpointing=True),
        streams=(
            Stream(
                name="depth",
                tokenizer=VQVAEDepthConfig(
                    codebook_size=128, grid=(10, 10), image_size=(320, 320), weights="runs/codebook"
                ),
            ),
        ),
        answer_format="readout",
        points="drawn",
        losses=(
            WeightedLoss(loss=NextTokenConfig(), weight=1.0),
            WeightedLoss(loss=MarkerConfig(stream="depth"), weight=1.0),
            WeightedLoss(loss=TokenConfig(stream="depth"), weight=1.0),
            WeightedLoss(loss=CountConfig(stream="depth"), weight=1.0),
        ),
        data=DataConfig(
            folders=(DataFolder(path="data/ade20k"),),
            mixture={"depth_map": 110_000, "relative_depth": 90_000},
            turns=1,
        ),
        train=TrainConfig(
            steps=steps,
            micro_batch_size=4,
            # For one GPU; divide it by the number of GPUs to keep the batch size.
            grad_accumulation=BATCH // 4,
            lr=2e-4,
            lr_scale={"vision_head": 0.1},
            weight_decay=0.0,
            warmup_steps=round(0.03 * steps),
            precision="bf16",
            train=("vision_head", "language.lora", "language.vocabulary"),
            save_pretrained_weights=False,
        ),
    )


def tiny() -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights."""
    paper = recipe()
    depth = attrs.evolve(
        paper.stream("depth").tokenizer,
        codebook_size=16,
        grid=(4, 4),
        image_size=(16, 16),
        widths=(4, 8),
        latent_dim=4,
        weights=None,
    )
    return attrs.evolve(
        paper.with_stream("depth", tokenizer=depth),
        name="aurora-tiny",
        vision=attrs.evolve(paper.vision, model="ViT-S-32-alt", tag=None, image_size=(64, 64)),
        vision_head=attrs.evolve(paper.vision_head, weights=None),
        language=attrs.evolve(
            paper.language,
            model=json.dumps(json.loads(paper.language.model) | TINY_LANGUAGE, sort_keys=True),
            text_vocab_size=NUM_BYTES,
            text_tokenizer_files=str(BYTES),
            template=CHATML,
            lora=LoRA(rank=4, alpha=8),
            weights=None,
        ),
        data=attrs.evolve(paper.data, folders=()),
        train=attrs.evolve(
            paper.train,
            steps=2,
            micro_batch_size=2,
            grad_accumulation=1,
            warmup_steps=1,
            log_every=1,
            save_pretrained_weights=True,
        ),
    )
