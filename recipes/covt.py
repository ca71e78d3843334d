"""CoVT (arXiv 2511.19418): Qwen2.5 that writes tokens of SAM, depth, edges and DINO before it answers.

    perceptio explain covt
    perceptio train covt:stage1 --out runs/covt/stage1
    perceptio train covt:stage2 --out runs/covt/stage2
    perceptio train covt:stage3 --out runs/covt/stage3
    perceptio train covt:stage4 --out runs/covt/stage4

Each stage starts from the one before. docs/published.md says which numbers are from the paper, which from its code,
and which are ours.
"""

import attrs

from perceptio.backbones import internvl
from perceptio.backbones.language.hf import LoRA
from perceptio.backbones.vision.timm import TimmConfig
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.heads.query import QueryHeadConfig
from perceptio.losses.decoded_l1 import DecodedL1Config
from perceptio.losses.features import FeatureMSEConfig
from perceptio.losses.matched_masks import MatchedMasksConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream, TrainConfig, WeightedLoss
from perceptio.settings import load_recipe
from perceptio.tasks.plain import PlainTaskConfig
from perceptio.tokenizers.perception.covt_depth import CoVTDepthConfig
from perceptio.tokenizers.perception.covt_edges import CoVTEdgesConfig
from perceptio.tokenizers.perception.covt_masks import CoVTMasksConfig
from perceptio.tokenizers.perception.features import FeaturesConfig
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig

BATCH = 8
DINO = "vit_large_patch14_dinov2.lvd142m"
STAGES = "runs/covt"
"""The folder of the stages; each has a folder with its name."""


def recipe(size: str = "3-8b") -> Recipe:
    """Return the third stage by itself: every conversation writes all published streams before the answer.

    Args:
        size: The size of an InternVL on Qwen2.5: "3-1b", "3-2b" or "3-8b".
    """
    return Recipe(
        name="covt",
        vision=internvl.vision(size, max_tiles=1),
        vision_head=internvl.projector(size),
        language=internvl.language(
            size, lora=LoRA(rank=16, alpha=32, dropout=0.01), gradient_checkpointing=True
        ),
        streams=(
            Stream(
                name="objects",
                tokenizer=CoVTMasksConfig(
                    segmentation=SAM2SegmentationConfig(
                        size="large", multimask=False, weights="facebook/sam2.1-hiera-large"
                    )
                ),
                head=QueryHeadConfig(num_queries=8),
            ),
            Stream(
                name="depth",
                tokenizer=CoVTDepthConfig(weights="depth-anything/Depth-Anything-V2-Large-hf"),
                head=PromptMLPConfig(activation="gelu"),
            ),
            Stream(
                name="edges",
                tokenizer=CoVTEdgesConfig(),
                head=QueryHeadConfig(num_queries=4, num_heads=4),
            ),
            Stream(
                name="dino",
                tokenizer=FeaturesConfig(
                    teacher=TimmConfig(model=DINO, weights=f"timm/{DINO}", image_size=(448, 448)),
                    token="<|dino_pad|>",
                    grid=None,
                ),
                head=QueryHeadConfig(num_queries=1024),
            ),
        ),
        tasks={"chat": PlainTaskConfig(may_perceive=True)},
        losses=(
            WeightedLoss(loss=NextTokenConfig(), weight=1.0),
            WeightedLoss(loss=MatchedMasksConfig(stream="objects"), weight=1.0),
            WeightedLoss(loss=DecodedL1Config(stream="depth"), weight=1.0),
            WeightedLoss(loss=DecodedL1Config(stream="edges"), weight=1.0),
            WeightedLoss(loss=FeatureMSEConfig(stream="dino"), weight=0.5),
        ),
        data=DataConfig(folders=(DataFolder(path="data/covt"),), mixture={"chat": 1.0}, turns=1),
        train=TrainConfig(
            steps=3000,
            micro_batch_size=1,
            # For one GPU; divide it by the number of GPUs to keep the batch size.
            grad_accumulation=BATCH,
            lr=5e-5,
            lr_scale={"streams.*": 0.2},
            weight_decay=0.1,
            warmup_steps=150,
            precision="bf16",
            train=("language.lora", "language.vocabulary", "streams.*.head"),
            save_pretrained_weights=False,
        ),
    )


def stage1(size: str = "3-8b") -> Recipe:
    """Return stage 1, "understanding": the tokens are only aligned with what they stand for, without a loss on words.

    Args:
        size: See `recipe`.
    """
    base = recipe(size)
    return attrs.evolve(
        base,
        name="covt-stage1",
        losses=tuple(one for one in base.losses if one.loss.term != "next_token"),
        data=attrs.evolve(base.data, perceive="separate_task"),
        train=attrs.evolve(base.train, steps=6000, warmup_steps=300),
    )


def stage2(size: str = "3-8b") -> Recipe:
    """Return stage 2, "generation": the tokens are written on request.

    Args:
        size: See `recipe`.
    """
    base = recipe(size)
    return attrs.evolve(
        base,
        name="covt-stage2",
        data=attrs.evolve(base.data, perceive="separate_task"),
        start_from=f"{STAGES}/stage1",
    )


def stage3(size: str = "3-8b") -> Recipe:
    """Return stage 3, "reasoning": all tokens are written before the answer.

    Args:
        size: See `recipe`.
    """
    return attrs.evolve(recipe(size), name="covt-stage3", start_from=f"{STAGES}/stage2")


def stage4(size: str = "3-8b") -> Recipe:
    """Return stage 4, "efficient reasoning": a random subset of the streams, possibly none, precedes the answer.

    Args:
        size: See `recipe`.
    """
    base = recipe(size)
    return attrs.evolve(
        base,
        name="covt-stage4",
        data=attrs.evolve(base.data, streams="random_subset"),
        train=attrs.evolve(base.train, steps=2000, warmup_steps=100),
        start_from=f"{STAGES}/stage3",
    )


def tiny() -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights."""
    paper, small = recipe(), load_recipe("perceptio_8b.py:tiny", beside=__file__, size="4b")
    objects, depth, edges, dino = (stream.tokenizer for stream in paper.streams)
    sam = attrs.evolve(objects.segmentation, size="tiny", image_size=64, weights=None)
    streams = (
        attrs.evolve(paper.stream("objects"), tokenizer=attrs.evolve(objects, segmentation=sam)),
        attrs.evolve(
            paper.stream("depth"),
            tokenizer=attrs.evolve(
                depth,
                layers=(0, 1, 2, 3),
                hidden_dim=16,
                num_layers=4,
                num_heads=2,
                trained_size=28,
                image_size=(28, 28),
                map_size=(16, 16),
                weights=None,
            ),
        ),
        attrs.evolve(
            paper.stream("edges"),
            tokenizer=attrs.evolve(edges, image_size=(32, 32), map_size=(16, 16)),
        ),
        attrs.evolve(
            paper.stream("dino"),
            tokenizer=attrs.evolve(dino, teacher=TimmConfig(model="test_vit", image_size=(32, 32))),
            head=QueryHeadConfig(num_queries=4),
        ),
    )
    return attrs.evolve(
        paper,
        name="covt-tiny",
        vision=attrs.evolve(small.vision, max_tiles=1),
        vision_head=small.vision_head,
        language=attrs.evolve(small.language, lora=LoRA(rank=4, alpha=8, dropout=0.01)),
        streams=streams,
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
