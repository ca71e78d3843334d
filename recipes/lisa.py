"""LISA (arXiv 2308.00692): LLaVA whose state before a [SEG] token prompts SAM.

    perceptio explain lisa
    perceptio train lisa --out runs/lisa

docs/published.md says what is the paper's, what is its code's, and what is ours.
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
"""How often its code draws from semantic, referring and reasoning segmentation, and from LLaVA's questions."""
BATCH = 160
"""Two on each of eight GPUs, ten times."""


def recipe(size: str = "1.5-7b") -> Recipe:
    """The published composition.

    Args:
        size: Of LLaVA: "1.5-7b" or "1.5-13b".
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
            # On one GPU; divided by the number of GPUs the batch stays what it is.
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
    """The same parts and settings at sizes for a CPU, with random weights."""
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
