"""Asking in other precisions than float32: it works, and says nearly the same."""

from contextlib import nullcontext

import pytest
import torch
from small import small_recipe

from perceptio.interfaces import Turn
from perceptio.model.inference.answer import decode_depth, predict_masks
from perceptio.model.inference.generation import generate
from perceptio.interfaces import GenerationSettings
from perceptio.model.perception_model import build_model

PERCEIVE = GenerationSettings(
    order=("segmentation", "depth"), force=("segmentation", "depth"), max_objects=1, max_new_tokens=4
)
POINTS = ((0.25, 0.25), (0.75, 0.5))
TURN = Turn(question="Which point is closest?", answer="", task="", points=POINTS)
IMAGE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))


def model_of():
    torch.manual_seed(0)
    return build_model(small_recipe()).eval()


@torch.inference_mode()
def written(model, codes=None):
    """Depth logits, decoded depth and mask logits, after the same codes."""
    made = generate(model, [TURN], [IMAGE], [0], PERCEIVE)
    given = made.depth.codes_BL if codes is None else codes
    fixed = generate(model, [TURN], [IMAGE], [0], PERCEIVE, given_codes_BL=given)
    depth = torch.from_numpy(decode_depth(model, fixed)[0].values_HW)
    return made.depth.logits_BLK[:, :4].float(), depth, predict_masks(model, [IMAGE], [0], fixed)[0], given


def difference(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("weights", "autocast", "allowed"),
    [
        (torch.bfloat16, None, 0.05),
        (torch.float16, None, 0.01),
        (torch.float32, torch.bfloat16, 0.05),
        (torch.float32, torch.float16, 0.01),
        (torch.bfloat16, torch.bfloat16, 0.05),
    ],
)
def test_other_precisions_say_nearly_the_same(weights, autocast, allowed):
    """The first step's depth logits, the map of the same codes, and the mask of the same prompt."""
    *expected, codes = written(model_of())
    model = model_of().to(weights)
    with torch.autocast("cpu", dtype=autocast) if autocast else nullcontext():
        *found, _ = written(model, codes)
        answer = model.ask(IMAGE, TURN.question, points=POINTS, settings=PERCEIVE)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        assert difference(mine, theirs) < allowed
    assert answer.depth.values_HW.dtype.name == "float32" and answer.masks.shape == (1, 32, 32)


def test_positions_keep_their_digits_when_weights_lose_theirs():
    rotary = model_of().language.rotary
    before = rotary.frequency_F.clone()
    assert torch.equal(rotary.to(torch.bfloat16).frequency_F, before)
