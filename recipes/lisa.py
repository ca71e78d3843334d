"""LISA (arXiv 2308.00692): LLaVA whose hidden state before a [SEG] token prompts SAM.

    perceptio explain lisa
    perceptio train lisa --out runs/lisa

docs/published.md says which numbers are from the paper, which from its code, and which are ours.
"""

import attrs

from perceptio.backbones import llava
from perceptio.backbones.language.hf import LoRA
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream, TrainConfig, WeightedLoss
from perceptio.settings import load_recipe
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig

FOLDERS = {"data/semantic": 9, "data/refcoco": 3, "data/llava": 3, "data/reasoning": 1}
"""The weights with which its code samples semantic segmentation, referring expressions, LLaVA and reasoning."""
BATCH = 160
"""2 on each of 8 GPUs, with 10 accumulation steps."""


def recipe(size: str = "1.5-7b") -> Recipe:
    """Return the published composition.

    Args:
        size: The size of LLaVA: "1.5-7b" or "1.5-13b".
    """
    return Recipe(
        name="lisa",
        vision=llava.vision(),
        vision_head=llava.projector(size),
        language=llava.language(
            size, lora=LoRA(rank=8, alpha=16, targets=("q_proj", "v_proj")), gradient_checkpointing=True
        ),
        streams=(
            Stream(
                name="segmentation",
                tokenizer=SAM2SegmentationConfig(
                    size="large", multimask=False, weights="facebook/sam2.1-hiera-large"
                ),
                head=PromptMLPConfig(),
                read_at="previous_token",
            ),
        ),
        losses=(
            WeightedLoss(loss=NextTokenConfig(), weight=1.0),
            WeightedLoss(loss=MaskBCEConfig(stream="segmentation"), weight=2.0),
            WeightedLoss(loss=DiceConfig(stream="segmentation"), weight=0.5),
        ),
        data=DataConfig(
            folders=tuple(DataFolder(path=path, weight=weight) for path, weight in FOLDERS.items()),
            mixture={"referring": 13.0, "chat": 3.0},
        ),
        train=TrainConfig(
            steps=5000,
            micro_batch_size=2,
            # For one GPU; divide it by the number of GPUs to keep the batch size.
            grad_accumulation=BATCH // 2,
            lr=3e-4,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            warmup_steps=100,
            precision="bf16",
            train=(
                "language.lora",
                "language.vocabulary",
                "streams.segmentation.head",
                "streams.segmentation.tokenizer.mask_decoder",
            ),
            save_pretrained_weights=False,
        ),
    )


def tiny() -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights."""
    paper, small = recipe(), load_recipe("aurora.py:tiny", beside=__file__)
    sam = attrs.evolve(paper.stream("segmentation").tokenizer, size="tiny", image_size=64, weights=None)
    return attrs.evolve(
        paper.with_stream("segmentation", tokenizer=sam),
        name="lisa-tiny",
        vision=small.vision,
        vision_head=small.vision_head,
        language=attrs.evolve(
            small.language, lora=LoRA(rank=4, alpha=8, targets=paper.language.lora.targets)
        ),
        data=attrs.evolve(paper.data, folders=(), mixture={"referring": 1.0}),
        train=attrs.evolve(
            paper.train,
            steps=2,
            grad_accumulation=1,
            warmup_steps=1,
            log_every=1,
            save_pretrained_weights=True,
        ),
    )
