"""Every registered component goes through the suite that plugin authors get."""

import json
from typing import ClassVar

import pytest
from fakes import FakeCentersConfig, FakeDepthConfig, FakeMaskCodesConfig, FakeMultiMapConfig
from small_clip import VIT, register
from small_sam3 import sam3_parts
from small_timm import DINOV2
from small_timm import register as register_timm
from tiny_hf import TEXT_VOCAB, model_json, tokenizer_folder

from perceptio.backbones.language.decoder import DecoderConfig
from perceptio.backbones.language.hf import HFLanguageConfig, LoRA
from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.backbones.vision.internvit import InternViTConfig
from perceptio.backbones.vision.open_clip import OpenCLIPConfig
from perceptio.backbones.vision.timm import TimmConfig
from perceptio.heads.linear import LinearHeadConfig
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.heads.query import QueryHeadConfig
from perceptio.interfaces import Turn
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.losses.code_tokens import CountConfig, ExpectedCountConfig, MarkerConfig, TokenConfig
from perceptio.losses.decoded_l1 import DecodedL1Config
from perceptio.losses.features import FeatureCosineConfig, FeatureMSEConfig
from perceptio.losses.mask_quality import MaskQualityConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig, PointSampling
from perceptio.losses.matched_masks import MatchedMasksConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig
from perceptio.registry import Registry
from perceptio.tasks.maps import MapTaskConfig
from perceptio.tasks.plain import AttributeTaskConfig, PlainTaskConfig
from perceptio.tasks.referring import ReferringTaskConfig
from perceptio.tasks.relative_depth import RelativeDepthTaskConfig
from perceptio.testing import (
    DepthTokenizerConformance,
    HeadConformance,
    LanguageBackboneConformance,
    LossConformance,
    PerceptionTokenizerConformance,
    RowHeadConformance,
    SegmentationTokenizerConformance,
    TaskConformance,
    VisionEncoderConformance,
)
from perceptio.testing.task import OBJECTS
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.tokenizers.depth.next_scale import NextScaleDepthConfig
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig
from perceptio.tokenizers.perception.box import BoxConfig
from perceptio.tokenizers.perception.covt_depth import CoVTDepthConfig
from perceptio.tokenizers.perception.covt_edges import CoVTEdgesConfig
from perceptio.tokenizers.perception.covt_masks import CoVTMasksConfig
from perceptio.tokenizers.perception.features import FeaturesConfig
from perceptio.tokenizers.perception.map import MapFSQConfig, MapVQVAEConfig
from perceptio.tokenizers.perception.mask_codes import MaskCodesConfig
from perceptio.tokenizers.segmentation.hf_sam import HFSAM3SegmentationConfig, HFSAMSegmentationConfig
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig

register()
register_timm()
SMALL_DEPTH = {
    "grid": (3, 2),
    "image_size": (12, 8),
    "widths": (4, 8),
    "residual_blocks": 1,
    "latent_dim": 6,
}
SMALL_HF_SAM2 = json.dumps(
    {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 16,
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [16, 32, 64, 128],
                "global_attention_blocks": [3],
            },
            "model_type": "sam2_vision_model",
            "backbone_channel_list": [128, 64, 32, 16],
            "fpn_hidden_size": 32,
        },
        "prompt_encoder_config": {"hidden_size": 32},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 32},
    }
)
UNIFORM = PointSampling(num_points=None)
SMALL_COVT = {"hidden_dim": 16, "num_layers": 3, "num_heads": 2, "trained_size": 28, "num_tokens": 2}


class NormalsConformance(PerceptionTokenizerConformance):
    channels = 3
    value_range = (-1.0, 1.0)


class BoxConformance(PerceptionTokenizerConformance):
    promised: ClassVar = {"iou": (0.99, 1.0)}


class FeaturesConformance(PerceptionTokenizerConformance):
    promised: ClassVar = {"cosine": (0.9999, 1.0001), "mse": (0.0, 0.0)}


class PlainConformance(TaskConformance):
    turns = (Turn(question="What color is the cube?", answer="red", task=""),)


class ExpressionsConformance(TaskConformance):
    turns = (
        Turn(question="Please segment the cube.", answer="Sure", task="", masks=tuple(OBJECTS[:1])),
        Turn(question="Please segment both.", answer="Sure", task="", masks=tuple(OBJECTS)),
    )


class PointsConformance(TaskConformance):
    turns = (
        Turn(
            question="Which point is closest?",
            answer="(B)",
            task="",
            points=((0.2, 0.9), (0.5, 0.1), (0.9, 0.5)),
        ),
    )


SUITES = {
    "vqvae": (DepthTokenizerConformance, VQVAEDepthConfig(codebook_size=10, **SMALL_DEPTH)),
    "fsq": (DepthTokenizerConformance, FSQDepthConfig(levels=(4, 3), **SMALL_DEPTH)),
    "next_scale": (
        DepthTokenizerConformance,
        NextScaleDepthConfig(codebook_size=10, coarser=((1, 1), (2, 1)), **SMALL_DEPTH),
    ),
    "map_vqvae": (
        NormalsConformance,
        MapVQVAEConfig(
            map="normals", channels=3, low=-1.0, unit_vectors=True, codebook_size=10, **SMALL_DEPTH
        ),
    ),
    "map_fsq": (PerceptionTokenizerConformance, MapFSQConfig(map="edges", levels=(4, 3), **SMALL_DEPTH)),
    "box": (BoxConformance, BoxConfig()),
    "mask_codes": (
        PerceptionTokenizerConformance,
        MaskCodesConfig(
            bins=32,
            codebook_size=10,
            grid=(2, 2),
            image_size=(8, 8),
            widths=(4, 8),
            latent_dim=6,
            residual_blocks=1,
        ),
    ),
    "features": (
        FeaturesConformance,
        FeaturesConfig(
            teacher=ConvVisionConfig(image_size=(16, 24), widths=(4, 6)), grid=(2, 3), num_tokens=2
        ),
    ),
    "covt_depth": (
        PerceptionTokenizerConformance,
        CoVTDepthConfig(layers=(0, 2), image_size=(28, 42), map_size=(12, 16), **SMALL_COVT),
    ),
    "covt_edges": (
        PerceptionTokenizerConformance,
        CoVTEdgesConfig(image_size=(20, 24), map_size=(20, 24)),
    ),
    "covt_masks": (
        PerceptionTokenizerConformance,
        CoVTMasksConfig(
            segmentation=PixelFeaturesConfig(image_size=(16, 24), widths=(8, 8), feature_dim=8), num_masks=3
        ),
    ),
    "pixel_features": (
        SegmentationTokenizerConformance,
        PixelFeaturesConfig(image_size=(16, 24), widths=(8, 8), feature_dim=8),
    ),
    "sam2": (
        SegmentationTokenizerConformance,
        SAM2SegmentationConfig(size="tiny", image_size=32, objects_per_call=3),
    ),
    "hf_sam": (
        SegmentationTokenizerConformance,
        HFSAMSegmentationConfig(model=SMALL_HF_SAM2, image_size=32, multimask=False),
    ),
    "hf_sam3": (
        SegmentationTokenizerConformance,
        HFSAM3SegmentationConfig(model=json.dumps(sam3_parts()), image_size=32),
    ),
    "conv": (VisionEncoderConformance, ConvVisionConfig(image_size=(16, 24), widths=(4, 6))),
    "internvit": (
        VisionEncoderConformance,
        InternViTConfig(
            hidden_dim=8, num_layers=1, num_heads=2, feed_forward_dim=8, patch_size=4, tile_size=16
        ),
    ),
    "open_clip": (VisionEncoderConformance, OpenCLIPConfig(model=VIT)),
    "timm": (VisionEncoderConformance, TimmConfig(model=DINOV2, keep_aspect=True)),
    "decoder": (LanguageBackboneConformance, DecoderConfig(words=("point",), hidden_dim=32, num_layers=2)),
    "hf": (
        LanguageBackboneConformance,
        HFLanguageConfig(
            model=model_json(),
            text_vocab_size=TEXT_VOCAB,
            text_tokenizer_files=str(tokenizer_folder()),
            lora=LoRA(rank=2),
        ),
    ),
    "linear": (HeadConformance, LinearHeadConfig()),
    "mlp": (HeadConformance, MLPHeadConfig()),
    "prompt_mlp": (HeadConformance, PromptMLPConfig()),
    "query": (RowHeadConformance, QueryHeadConfig(num_queries=3, num_heads=5)),
    "next_token": (LossConformance, NextTokenConfig()),
    "marker": (LossConformance, MarkerConfig(stream="depth")),
    "token": (LossConformance, TokenConfig(stream="depth")),
    "count": (LossConformance, CountConfig(stream="depth")),
    "expected_count": (LossConformance, ExpectedCountConfig(stream="depth")),
    "soft_reconstruction": (LossConformance, SoftReconstructionConfig(stream="depth")),
    "cell_codes": (LossConformance, CellCodesConfig(stream="depth")),
    "mask_bce": (LossConformance, MaskBCEConfig(stream="segmentation", sampling=UNIFORM)),
    "dice": (LossConformance, DiceConfig(stream="segmentation", sampling=UNIFORM)),
    "mask_quality": (LossConformance, MaskQualityConfig(stream="segmentation")),
    "decoded_l1": (LossConformance, DecodedL1Config(stream="edges")),
    "feature_mse": (LossConformance, FeatureMSEConfig(stream="features")),
    "feature_cosine": (LossConformance, FeatureCosineConfig(stream="features", compare="decoded")),
    "attribute": (PlainConformance, AttributeTaskConfig()),
    "plain": (PlainConformance, PlainTaskConfig(may_perceive=True)),
    "map": (TaskConformance, MapTaskConfig(stream="edges")),
    "referring": (ExpressionsConformance, ReferringTaskConfig()),
    "relative_depth": (PointsConformance, RelativeDepthTaskConfig()),
    "matched_masks": (LossConformance, MatchedMasksConfig(stream="objects")),
}
for _name, (_suite, _config) in SUITES.items():
    globals()[f"Test_{_name}"] = type(f"Test_{_name}", (_suite,), {"config": _config})


@pytest.mark.parametrize("name", [name for name, (suite, _) in SUITES.items() if suite is LossConformance])
def test_counting_the_items_of_a_loss_does_not_wait_for_a_device(name):
    suite = globals()[f"Test_{name}"]()
    batch = suite.batch()
    assert suite.fresh().count(batch.to("meta")) == suite.fresh().count(batch) > 0  # "meta" has no values.


class TestOneAxisDecoder(LanguageBackboneConformance):
    config = DecoderConfig(hidden_dim=24, num_layers=1, num_heads=2, num_kv_heads=1, position_axes=1)


class Unregistered:
    @pytest.mark.skip(reason="A stand-in of the tests; only what is registered has a name in JSON.")
    def test_the_config_survives_json(self):
        raise NotImplementedError


class TestFakeDepth(Unregistered, DepthTokenizerConformance):
    config = FakeDepthConfig()


class TestFakeMultiMap(Unregistered, SegmentationTokenizerConformance):
    config = FakeMultiMapConfig()


class TestFakeMaskCodes(Unregistered, SegmentationTokenizerConformance):
    config = FakeMaskCodesConfig()


class TestFakeCenters(Unregistered, PerceptionTokenizerConformance):
    config = FakeCentersConfig()


def test_every_registered_component_is_here():
    registered = {entry.name for entry in Registry.discover().entries if entry.provider == "perceptio"}
    assert registered == set(SUITES)
    assert all(config.name == name for name, (_, config) in SUITES.items())
