"""The built-in tokenizers as streams of one model: trained, asked, saved and loaded."""

import attrs
import numpy as np
import pytest
import torch
from small import scenes_folder, small_recipe

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.heads.linear import LinearHeadConfig
from perceptio.heads.query import QueryHeadConfig
from perceptio.interfaces import DepthConvention, DepthMap
from perceptio.losses.code_tokens import CountConfig, MarkerConfig, TokenConfig
from perceptio.losses.features import FeatureMSEConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig
from perceptio.model.perception_model import load
from perceptio.recipe import Stream, TokenizerTraining, WeightedLoss
from perceptio.tokenizers.depth.next_scale import NextScaleDepthConfig
from perceptio.tokenizers.perception.box import BoxConfig
from perceptio.tokenizers.perception.features import FeaturesConfig
from perceptio.tokenizers.perception.map import MapFSQConfig, MapVQVAEConfig
from perceptio.tokenizers.perception.mask_codes import MaskCodesConfig
from perceptio.training.trainer import train

SIZES = {"grid": (2, 2), "image_size": (8, 8), "widths": (4, 8), "residual_blocks": 1, "latent_dim": 5}
TEACHER = ConvVisionConfig(image_size=(16, 16), widths=(4, 6))
METRES = DepthConvention(near_m=1.0, far_m=16.0)
STREAMS = {
    "depth": NextScaleDepthConfig(codebook_size=6, coarser=((1, 1),), convention=METRES, **SIZES),
    "normals": MapVQVAEConfig(
        map="normals", channels=3, low=-1.0, unit_vectors=True, codebook_size=6, **SIZES
    ),
    "edges": MapFSQConfig(map="edges", levels=(3, 3), **SIZES),
    "features": FeaturesConfig(teacher=TEACHER, grid=(2, 3)),
    "fed_back": FeaturesConfig(teacher=TEACHER, grid=(2, 1), num_tokens=2, token="<fed_back>"),
    "box": BoxConfig(bins=16),
    "mask": MaskCodesConfig(bins=16, codebook_size=6, **SIZES),
}
CODES = ("depth", "normals", "edges", "box", "mask")


def recipe_of(folder):
    training = TokenizerTraining(steps=4, batch_size=8, warmup_steps=1, unquantized=0.5)
    heads = {"features": QueryHeadConfig(num_queries=6, num_heads=2), "fed_back": LinearHeadConfig()}
    steps = {"depth": "group", "mask": 4}
    base = small_recipe(folder)
    return attrs.evolve(
        base,
        streams=tuple(
            Stream(
                name=name,
                tokenizer=tokenizer,
                head=heads.get(name),
                feedback=LinearHeadConfig() if name == "fed_back" else None,
                read_at="previous_token" if name == "fed_back" else "special_token",
                codes_per_step=steps.get(name, 1),
                training=training,
            )
            for name, tokenizer in STREAMS.items()
        ),
        heads={},
        losses=(
            WeightedLoss(loss=NextTokenConfig()),
            *(
                WeightedLoss(loss=loss(stream=name))
                for name in CODES
                for loss in (MarkerConfig, TokenConfig, CountConfig)
            ),
            *(
                WeightedLoss(loss=SoftReconstructionConfig(stream=name))
                for name in ("depth", "normals", "edges")
            ),
            *(WeightedLoss(loss=FeatureMSEConfig(stream=name)) for name in ("features", "fed_back")),
        ),
        data=attrs.evolve(base.data, text_only_readout=0.0, text_only_comparison=0.0),
        train=attrs.evolve(base.train, steps=2, save_every=2),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of all of them after two steps, and the folder of its checkpoint."""
    place = tmp_path_factory.mktemp("streams")
    model = train(recipe_of(scenes_folder(place / "scenes")), place / "run")
    return model, place / "run" / "checkpoint"


def ask(model):
    image_3HW = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    return model.ask(image_3HW, "Please segment the red sphere in this image", perceive=tuple(STREAMS))


def test_an_answer_has_what_each_stream_decodes_to(run):
    answer = ask(run[0])
    decoded = answer.decoded
    assert isinstance(decoded["depth"], DepthMap) and decoded["depth"].unit == "metres"
    assert decoded["normals"].shape == (8, 8, 3) and decoded["edges"].shape == (8, 8, 1)
    assert decoded["features"].shape == (6, 6) and decoded["fed_back"].shape == (2, 6)
    assert [len(box) for box in decoded["box"]] == [4]
    assert [(mask.shape, mask.dtype) for mask in decoded["mask"]] == [((40, 50), bool)]
    assert {name: len(answer.codes[name]) for name in ("depth", "normals", "edges")} == {
        "depth": 5,
        "normals": 4,
        "edges": 4,
    }
    assert [len(codes) for codes in answer.codes["mask"]] == [8]


def test_a_loaded_model_answers_the_same(run):
    model, checkpoint = run
    answers = ask(model), ask(load(checkpoint))
    assert answers[0].codes == answers[1].codes
    for name in ("normals", "edges", "features", "fed_back"):
        assert np.array_equal(answers[0].decoded[name], answers[1].decoded[name])


def test_the_teacher_learned_nothing(run):
    model, _ = run
    assert not any(
        name.startswith("streams.features.tokenizer")
        for name, p in model.named_parameters()
        if p.requires_grad
    )
