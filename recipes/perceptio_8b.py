"""Perceptio on InternVL2.5-8B: the paper's composition (arXiv 2603.18795), with the numbers of its predecessors.

    perceptio explain perceptio_8b
    perceptio train perceptio_8b --out runs/8b
    perceptio train perceptio_8b:tiny --set 'data.folders=[{"path": "data/scenes"}]' --out runs/tiny

The numbers come from

- the paper: the parts, the order of the streams, the kinds of losses, and the teachers;
- Sa2VA (arXiv 2501.04001), where the paper does not state them: LoRA, the mask losses, optimizer, batch, repeats of
  the data, and what trains;
- AURORA (arXiv 2412.03548): the sizes of the codebook;
- ours: the weights of the depth losses, the share of depth data, and SAM 2.1 instead of Sa2VA's SAM 2.

Pretrained weights are named by their hub ids. To read them from files, set for instance
`--set streams.segmentation.tokenizer.weights=checkpoints/sam2.1_hiera_large.pt`. The weights of the depth tokenizer
and the data must be created first (docs/from_checkpoints.md): `perceptio data import` creates the data folders, and
`perceptio depth-targets` their depth maps.
"""

import json

import attrs

from perceptio.backbones import internvl
from perceptio.backbones.language.hf import LoRA
from perceptio.backbones.language.hf_text import BYTES, NUM_BYTES
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.losses.code_tokens import CountConfig, ExpectedCountConfig, MarkerConfig, TokenConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig
from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream, TrainConfig, WeightedLoss
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig

FOLDERS = {
    "data/refcoco": 85_000,
    "data/refcoco_plus": 85_000,
    "data/refcocog": 88_000,
    "data/llava": 665_000,
    "data/ade20k": 20_000,
}
"""Conversations per epoch: Sa2VA's images times repeats, LLaVA's mixture once, AURORA's depth images once (ours)."""

TASKS = {"referring": 258_000, "chat": 665_000, "depth_map": 20_000, "relative_depth": 20_000}
"""Conversations per epoch by task. Images of ADE20K have both depth maps and marked-point questions."""

BATCH = 256
STEPS = sum(TASKS.values()) // BATCH
TINY_LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": NUM_BYTES,
}


def recipe(size: str = "8b") -> Recipe:
    """Return the paper's composition.

    Args:
        size: The size of InternVL2.5: "1b", "2b", "4b" or "8b".
    """
    which = f"2.5-{size}"
    return Recipe(
        name=f"perceptio-{size}",
        vision=internvl.vision(which),
        vision_head=internvl.projector(which),
        language=internvl.language(which, lora=LoRA(rank=128, alpha=256), gradient_checkpointing=True),
        streams=(
            Stream(
                name="segmentation",
                tokenizer=SAM2SegmentationConfig(size="large", weights="facebook/sam2.1-hiera-large"),
                head=PromptMLPConfig(),
            ),
            Stream(
                name="depth",
                tokenizer=VQVAEDepthConfig(
                    codebook_size=128, grid=(10, 10), image_size=(320, 320), weights="runs/codebook"
                ),
            ),
        ),
        points="drawn",
        losses=(
            WeightedLoss(loss=NextTokenConfig(), weight=1.0),
            WeightedLoss(loss=MarkerConfig(stream="depth"), weight=1.0),
            WeightedLoss(loss=TokenConfig(stream="depth"), weight=1.0),
            WeightedLoss(loss=CountConfig(stream="depth"), weight=1.0),
            WeightedLoss(loss=ExpectedCountConfig(stream="depth"), weight=0.1),
            WeightedLoss(loss=SoftReconstructionConfig(stream="depth"), weight=1.0),
            WeightedLoss(loss=MaskBCEConfig(stream="segmentation"), weight=2.0),
            WeightedLoss(loss=DiceConfig(stream="segmentation"), weight=0.5),
        ),
        data=DataConfig(
            folders=tuple(DataFolder(path=path, weight=weight) for path, weight in FOLDERS.items()),
            mixture=TASKS,
            turns=5,
        ),
        train=TrainConfig(
            steps=STEPS,
            micro_batch_size=2,
            # For one GPU; divide it by the number of GPUs to keep the batch size.
            grad_accumulation=BATCH // 2,
            lr=4e-5,
            weight_decay=0.05,
            max_grad_norm=1.0,
            warmup_steps=round(0.05 * STEPS),
            precision="bf16",
            train=(
                "vision_head",
                "streams.segmentation.head",
                "language.lora",
                "language.vocabulary",
                "streams.segmentation.tokenizer.mask_decoder",
            ),
            save_pretrained_weights=False,
        ),
    )


def tiny(size: str = "8b") -> Recipe:
    """Return the same parts and settings at sizes for a CPU, with random weights, to show that they work together.

    Args:
        size: The InternVL2.5 whose type of language model is used.
    """
    paper = recipe(size)
    masks, depth = (paper.stream(name).tokenizer for name in ("segmentation", "depth"))
    small = paper.with_stream(
        "segmentation", tokenizer=attrs.evolve(masks, size="tiny", image_size=64, weights=None)
    ).with_stream(
        "depth",
        tokenizer=attrs.evolve(
            depth,
            codebook_size=16,
            grid=(4, 4),
            image_size=(16, 16),
            widths=(4, 8),
            latent_dim=4,
            weights=None,
        ),
    )
    return attrs.evolve(
        small,
        name=f"{paper.name}-tiny",
        vision=attrs.evolve(
            paper.vision,
            hidden_dim=16,
            num_layers=2,
            num_heads=2,
            feed_forward_dim=32,
            patch_size=4,
            tile_size=16,
            weights=None,
        ),
        vision_head=attrs.evolve(paper.vision_head, weights=None),
        language=attrs.evolve(
            paper.language,
            model=json.dumps(json.loads(paper.language.model) | TINY_LANGUAGE, sort_keys=True),
            text_vocab_size=NUM_BYTES,
            text_tokenizer_files=str(BYTES),
            lora=LoRA(rank=4, alpha=8),
            weights=None,
        ),
        data=attrs.evolve(paper.data, folders=(), mixture={"referring": 1.0, "relative_depth": 1.0}),
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
