"""A recipe of registered parts that builds in milliseconds and trains on 32-pixel scenes."""

from pathlib import Path
from typing import Any

import attrs
from fakes import tiny_recipe

from perceptio.data.folder import write_folder
from perceptio.data.scenes import SceneSet, Split
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.interfaces import DepthConvention
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.recipe import (
    DataConfig,
    DataFolder,
    Recipe,
    Stream,
    TokenizerTraining,
    TrainConfig,
    WeightedLoss,
)
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig

SIZE = 32


def scenes_folder(folder: Path, count: int = 12, split: Split = Split.TRAIN) -> Path:
    """A data folder of small scenes."""
    write_folder(folder, SceneSet(split=split, count=count, size=SIZE), info=SceneSet.info)
    return folder


def small_recipe(folder: Path | None = None, **changes: Any) -> Recipe:
    """The whole method: masks, 4x4 depth codes a row at a time, read-outs, every loss."""
    base = tiny_recipe()
    recipe = attrs.evolve(
        base,
        name="small",
        streams=(
            Stream(
                name="segmentation",
                tokenizer=PixelFeaturesConfig(image_size=(16, 16)),
                head=PromptMLPConfig(),
            ),
            Stream(
                name="depth",
                tokenizer=VQVAEDepthConfig(
                    codebook_size=8,
                    grid=(4, 4),
                    image_size=(16, 16),
                    convention=DepthConvention(near_m=1.0, far_m=16.0),
                    widths=(4, 8),
                    residual_blocks=1,
                    latent_dim=4,
                ),
                codes_per_step=4,
                training=TokenizerTraining(steps=4, batch_size=8, warmup_steps=1, unquantized=0.0),
            ),
        ),
        heads={"depth": MLPHeadConfig()},
        losses=(*base.losses, WeightedLoss(loss=CellCodesConfig(stream="depth"), weight=0.5)),
        data=DataConfig(
            folders=() if folder is None else (DataFolder(path=str(folder)),),
            text_only_readout=0.5,
            text_only_comparison=0.5,
            turns=2,
        ),
        train=TrainConfig(steps=6, micro_batch_size=2, warmup_steps=2, log_every=1, save_every=3),
    )
    return attrs.evolve(recipe, **changes)
