"""`perceptio_135m` at a size that two CPU cores train in minutes, on weights and pictures of this machine.

    perceptio train benchmarks/real/small.py:masks --arg weights=WEIGHTS --arg pictures=OUT --out OUT/masks
    perceptio train benchmarks/real/small.py:words … --arg after=OUT/masks --out OUT/words
    perceptio train benchmarks/real/small.py … --arg after=OUT/words --out OUT/run

Parts and losses are the recipe's, with masks from features of pixels. The sizes are ours: pictures of 224 pixels in
64 tokens, small depth maps, ten codes a step, and adapters in place of the whole language model. So is the order, for
so few steps do not teach everything at once. In the first stage the language model is as it came and sees no picture;
the mask side learns from its states which pixels an expression means. In the second the language model learns to
answer with masks, and in the third everything is learned as in the recipe. Adapters and projector are slow and the
codes' terms light, so that what the masks read is not forgotten.
"""

from typing import Any

import attrs

from perceptio.backbones.language.hf import LoRA
from perceptio.losses.code_tokens import CountConfig, ExpectedCountConfig, MarkerConfig, TokenConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.recipe import DataFolder, Recipe, TokenizerTraining
from perceptio.settings import load_recipe

SIDE = 224
CODES_WEIGHT = 0.1
"""Of the cross-entropies of codes, whose gradients are a hundred times those of masks at the start."""


def recipe(weights: str, pictures: str, after: str | None = None, steps: int = 300) -> Recipe:
    """The last stage, which is the whole.

    Args:
        weights: The folder that `weights.py` made.
        pictures: Holds the data folders that `whole_way.py` imports.
        after: The run of the stage before; None: what it teaches starts from random values.
        steps: Of training.
    """
    base = load_recipe("perceptio_135m", masks="pixel_features")
    dinov2, smollm2 = f"{weights}/dinov2-small", f"{weights}/smollm2-135m"
    vision = attrs.evolve(base.vision, weights=dinov2, image_size=(SIDE, SIDE), grid=(8, 8))
    segmentation = attrs.evolve(
        base.stream("segmentation").tokenizer,
        image_size=(SIDE, SIDE),
        widths=(16, 32, 64, 128),
        feature_dim=32,
        backbone=attrs.evolve(vision, grid=None),
    )
    depth = attrs.evolve(
        base.stream("depth").tokenizer, image_size=(80, 80), widths=(16, 32, 64), latent_dim=32
    )
    small = base.with_stream("segmentation", tokenizer=segmentation, read_at="previous_token").with_stream(
        "depth", tokenizer=depth, codes_per_step=10, training=TokenizerTraining(steps=300, batch_size=8)
    )
    return attrs.evolve(
        small,
        name="perceptio-135m-small",
        vision=vision,
        language=attrs.evolve(
            base.language,
            weights=smollm2,
            text_tokenizer_files=smollm2,
            dtype="bfloat16",
            lora=LoRA(rank=16, alpha=32),
        ),
        losses=tuple(
            attrs.evolve(one, weight=CODES_WEIGHT * one.weight)
            if isinstance(one.loss, MarkerConfig | TokenConfig | CountConfig)
            else one
            for one in base.losses
            # It describes blocks that are written code by code.
            if not isinstance(one.loss, ExpectedCountConfig)
        ),
        data=attrs.evolve(
            base.data,
            folders=(
                DataFolder(path=f"{pictures}/objects/train"),
                DataFolder(path=f"{pictures}/points/train"),
            ),
            mixture={"referring": 2.0, "relative_depth": 1.0},
            turns=5,
        ),
        train=attrs.evolve(
            base.train,
            steps=steps,
            micro_batch_size=1,
            grad_accumulation=1,
            lr=1e-3,
            lr_scale={"language.lora": 0.2, "language.vocabulary": 1.0, "vision_head": 0.2},
            muon=dict.fromkeys(base.train.muon, 0.01 if after else 0.02),
            warmup_steps=20,
            log_every=10,
            save_every=100,
            train=("language.lora", "language.vocabulary", *base.train.train[:1], *base.train.train[2:]),
        ),
        start_from=after,
    )


def masks(weights: str, pictures: str, steps: int = 300) -> Recipe:
    """The first stage: masks alone, sixteen objects a step, with the language model and its view of pictures frozen.

    Args:
        weights: As in `recipe`.
        pictures: As in `recipe`.
        steps: Of training.
    """
    whole = recipe(weights, pictures, steps=steps)
    return _referring(
        whole,
        "masks",
        micro_batch_size=4,
        lr_scale={},
        train=(*whole.train.muon, "streams.segmentation.tokenizer.mask_decoder"),
    )


def words(weights: str, pictures: str, after: str | None = None, steps: int = 200) -> Recipe:
    """The second stage: answers in words with their masks, and no depth.

    Args:
        weights: As in `recipe`.
        pictures: As in `recipe`.
        after: As in `recipe`.
        steps: Of training.
    """
    return _referring(
        recipe(weights, pictures, after, steps),
        "words",
        NextTokenConfig,
        micro_batch_size=2,
        lr_scale={"language.lora": 0.1, "language.vocabulary": 1.0, "vision_head": 0.1},
    )


def _referring(whole: Recipe, stage: str, *losses: type, **train: Any) -> Recipe:
    """A stage that learns masks of expressions alone, by the mask losses and `losses`."""
    learned = (MaskBCEConfig, DiceConfig, *losses)
    return attrs.evolve(
        whole,
        name=f"{whole.name}-{stage}",
        streams=(whole.stream("segmentation"),),
        losses=tuple(one for one in whole.losses if isinstance(one.loss, learned)),
        data=attrs.evolve(whole.data, folders=whole.data.folders[:1], mixture={"referring": 1.0}, turns=4),
        train=attrs.evolve(whole.train, **train),
    )
