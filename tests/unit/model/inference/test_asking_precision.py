"""Asking in other precisions than float32: it works, and says nearly the same."""

from contextlib import nullcontext

import pytest
import torch
from small import small_recipe

from perceptio.interfaces import GenerationSettings, Turn
from perceptio.model.inference.generation import generate
from perceptio.model.perception_model import build_model

PERCEIVE = GenerationSettings(
    streams=("segmentation", "depth"), force=("segmentation", "depth"), max_objects=1, max_new_tokens=4
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
    given = made.streams["depth"].codes_BOL[:, 0] if codes is None else codes
    fixed = generate(model, [TURN], [IMAGE], [0], PERCEIVE, given_codes={"depth": given})
    depth, masks = model.stream("depth"), model.stream("segmentation")
    with torch.autocast("cpu", enabled=False):
        unit_11HW = depth.tokenizer.from_codes(fixed.streams["depth"].codes_BOL[:, 0]).float()
    rows_NmP = masks.read(fixed.streams["segmentation"].hidden_BOnD[:, 0])
    made_masks = masks.tokenizer.from_rows(rows_NmP, masks.encode_image([IMAGE]), torch.zeros(1).long())
    return made.streams["depth"].logits[0][:, 0].float(), unit_11HW, made_masks.logits_Nhw.float(), given


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
    assert answer["depth"].values_HW.dtype.name == "float32"
    assert answer["segmentation"][0].shape == (32, 32)


def test_positions_keep_their_digits_when_weights_lose_theirs():
    rotary = model_of().language.rotary
    before = rotary.frequency_F.clone()
    assert torch.equal(rotary.to(torch.bfloat16).frequency_F, before)
