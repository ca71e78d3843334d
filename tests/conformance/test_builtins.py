"""Every registered component goes through the suite that plugin authors get."""

from typing import ClassVar

import pytest
from fakes import FakeCentersConfig, FakeDepthConfig, FakeMaskCodesConfig, FakeMultiMapConfig
from tiny_parts import CONV, PARTS, PIXEL_FEATURES, SMALL_DEPTH

from perceptio.backbones.language.decoder import DecoderConfig
from perceptio.heads.linear import LinearHeadConfig
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.heads.prompt_mlp import PromptMLPConfig
from perceptio.heads.query import QueryHeadConfig
from perceptio.interfaces import Kind, Turn
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
from perceptio.tasks.drawn_points import DrawnPointsTaskConfig
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
from perceptio.tokenizers.perception.box import BoxConfig
from perceptio.tokenizers.perception.covt_depth import CoVTDepthConfig
from perceptio.tokenizers.perception.covt_edges import CoVTEdgesConfig
from perceptio.tokenizers.perception.covt_masks import CoVTMasksConfig
from perceptio.tokenizers.perception.features import FeaturesConfig
from perceptio.tokenizers.perception.map import MapFSQConfig, MapVQVAEConfig
from perceptio.tokenizers.perception.mask_codes import MaskCodesConfig

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


class DrawnPointsConformance(TaskConformance):
    turns = (Turn(question="Which of the circled points is closest?", answer="(B)", task=""),)


OF_KIND = {
    Kind.DEPTH: DepthTokenizerConformance,
    Kind.SEGMENTATION: SegmentationTokenizerConformance,
    Kind.VISION: VisionEncoderConformance,
    Kind.LANGUAGE: LanguageBackboneConformance,
}
SUITES = {
    **{config.name: (OF_KIND[kind], config) for kind, configs in PARTS.items() for config in configs},
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
        FeaturesConfig(teacher=CONV, grid=(2, 3), num_tokens=2),
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
        CoVTMasksConfig(segmentation=PIXEL_FEATURES, num_masks=3),
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
    "drawn_points": (DrawnPointsConformance, DrawnPointsTaskConfig()),
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
    entries = [entry for entry in Registry.discover().entries if entry.provider == "perceptio"]
    no_parts_of_models = (Kind.LAUNCHER, Kind.SOURCE, Kind.TEACHER)
    registered = {entry.name for entry in entries if entry.config.kind not in no_parts_of_models}
    assert registered == set(SUITES), "give one in tests/support/tiny_parts.py, or here with its suite"
    assert all(config.name == name for name, (_, config) in SUITES.items())
