"""Mirage (arXiv 2506.17218): a language model that writes latent image tokens, which are fed back as its next inputs.

    perceptio explain mirage
    perceptio train mirage --out runs/mirage

docs/published.md says which numbers are from the paper, which from its code, and which are ours.
"""

import attrs

from perceptio.backbones import internvl
from perceptio.backbones.language.hf import LoRA
from perceptio.heads.linear import LinearHeadConfig
from perceptio.losses.features import FeatureCosineConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream, TrainConfig, WeightedLoss
from perceptio.settings import load_recipe
from perceptio.tasks.plain import PlainTaskConfig
from perceptio.tokenizers.perception.features import FeaturesConfig


def recipe(size: str = "3-8b") -> Recipe:
    """Return the recipe: four latent tokens that learn the image's own features, averaged over its quarters.

    Args:
        size: The size of an InternVL on Qwen2.5: "3-1b", "3-2b" or "3-8b".
    """
    vision = internvl.vision(size, max_tiles=1)
    return Recipe(
        name="mirage",
        vision=vision,
        vision_head=internvl.projector(size),
        language=internvl.language(size, lora=LoRA(rank=128, alpha=256), gradient_checkpointing=True),
        streams=(
            Stream(
                name="latents",
                tokenizer=FeaturesConfig(teacher=vision, num_tokens=4, token="<latent>", grid=(2, 2)),
                head=LinearHeadConfig(),
                read_at="previous_token",
                feedback=LinearHeadConfig(),
            ),
        ),
        tasks={"chat": PlainTaskConfig(may_perceive=True)},
        losses=(
            WeightedLoss(loss=NextTokenConfig(), weight=1.0),
            WeightedLoss(loss=FeatureCosineConfig(stream="latents"), weight=0.1),
        ),
        data=DataConfig(folders=(DataFolder(path="data/mirage"),), mixture={"chat": 1.0}, turns=1),
        train=TrainConfig(
            steps=2000,
            micro_batch_size=1,
            # For one GPU; divide it by the number of GPUs to keep the batch size.
            grad_accumulation=8,
            lr=1e-5,
            weight_decay=0.01,
            warmup_steps=10,
            precision="bf16",
            train=(
                "vision_head",
                "language.lora",
                "language.vocabulary",
                "streams.latents.head",
                "streams.latents.feedback",
            ),
            save_pretrained_weights=False,
        ),
    )


def tiny() -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights."""
    paper, small = recipe(), load_recipe("perceptio_8b.py:tiny", beside=__file__, size="4b")
    vision = attrs.evolve(small.vision, max_tiles=1)
    latents = attrs.evolve(paper.stream("latents").tokenizer, teacher=vision)
    return attrs.evolve(
        paper.with_stream("latents", tokenizer=latents),
        name="mirage-tiny",
        vision=vision,
        vision_head=small.vision_head,
        language=small.language,
        tasks={"attribute": PlainTaskConfig(may_perceive=True)},
        data=attrs.evolve(paper.data, folders=(), mixture={"attribute": 1.0}),
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
