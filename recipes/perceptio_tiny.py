"""The small Perceptio: the whole method at a size that trains on two CPU cores in minutes.

Sizes and steps are ours, chosen on validation scenes. It departs from the paper in three ways:

- Ten depth codes are predicted per step (the paper: one).
- Marked points are read out before the answer (the paper: no read-out).
- Reading codes, comparing them, and finding the words of a mask are also taught in separate text-only samples.
"""

from perceptio.backbones.language.decoder import DecoderConfig
from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.data.scenes import words
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.interfaces import DepthConvention
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.losses.code_tokens import CountConfig, MarkerConfig, TokenConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig, PointSampling
from perceptio.losses.next_token import NextTokenConfig
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig
from perceptio.recipe import DataConfig, DataFolder, Recipe, Stream, TrainConfig, WeightedLoss
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig

GRID = (10, 10)
IMAGE = (80, 80)
EVERY_CELL = PointSampling(num_points=None)
MUON = ("vision", "vision_head", "language.trunk", "streams.segmentation.*", "heads")
"""All parts with matrices, except the vocabulary."""


def recipe() -> Recipe:
    """Return the small Perceptio."""
    return Recipe(
        name="perceptio-tiny",
        vision=ConvVisionConfig(image_size=IMAGE, widths=(32, 64, 128), dilations=(2, 4)),
        vision_head=MLPHeadConfig(),
        language=DecoderConfig(
            words=words(),
            hidden_dim=128,
            num_layers=4,
            num_heads=4,
            feed_forward_dim=256,
            rope_fastest=2.0,
        ),
        streams=(
            Stream(
                name="segmentation", tokenizer=PixelFeaturesConfig(image_size=IMAGE), head=PromptMLPConfig()
            ),
            Stream(
                name="depth",
                tokenizer=VQVAEDepthConfig(
                    codebook_size=128,
                    grid=GRID,
                    image_size=IMAGE,
                    convention=DepthConvention(near_m=1.0, far_m=16.0),
                    widths=(16, 32, 64),
                    latent_dim=32,
                ),
                codes_per_step=10,
            ),
        ),
        heads={"depth": MLPHeadConfig()},
        answer_format="readout",
        losses=(
            WeightedLoss(loss=NextTokenConfig(), weight=2.0),
            WeightedLoss(loss=MarkerConfig(stream="depth"), weight=0.2),
            WeightedLoss(loss=TokenConfig(stream="depth"), weight=1.0),
            WeightedLoss(loss=CountConfig(stream="depth"), weight=0.2),
            WeightedLoss(loss=SoftReconstructionConfig(stream="depth"), weight=8.0),
            WeightedLoss(loss=CellCodesConfig(stream="depth"), weight=2.0),
            WeightedLoss(loss=MaskBCEConfig(stream="segmentation", sampling=EVERY_CELL), weight=16.0),
            WeightedLoss(loss=DiceConfig(stream="segmentation", sampling=EVERY_CELL), weight=6.0),
        ),
        data=DataConfig(
            folders=(DataFolder(path="runs/demo/scenes/train"),),
            mixture={"relative_depth": 1.0, "referring": 1.0},
            turns=6,
            max_questions=1000,
            text_only_readout=0.5,
            text_only_comparison=3.0,
            text_only_referring=1.0,
            vision_only=0.0,
        ),
        train=TrainConfig(
            steps=520,
            micro_batch_size=8,
            lr=2e-3,
            muon=dict.fromkeys(MUON, 0.02),
            warmup_steps=50,
            precision="auto",
        ),
    )
