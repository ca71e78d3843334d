"""Parts in bfloat16 beside parts in float32, and what stays in float32 whatever the model computes in."""

import attrs
import pytest
import torch
from small import small_recipe

from perceptio.data.collate import Collate
from perceptio.interfaces import DepthMap, Sample, Turn
from perceptio.model.perception_model import build_model
from perceptio.training.objective import Objective

FROZEN_LANGUAGE = ("vision", "vision_head", "streams.*", "heads")


@pytest.fixture
def model():
    torch.manual_seed(0)
    recipe = small_recipe()
    return build_model(attrs.evolve(recipe, train=attrs.evolve(recipe.train, train=FROZEN_LANGUAGE)))


@pytest.fixture
def batch(model):
    random = torch.Generator().manual_seed(0)
    masks = (torch.rand(16, 16, generator=random) > 0.5).numpy()
    turn = Turn(
        question="Which", answer="red", task="any", masks=(masks,), perceive=("segmentation", "depth")
    )
    depth = DepthMap(values_HW=torch.linspace(1, 15, 256).reshape(16, 16).numpy(), unit="metres")
    image = torch.rand(3, 16, 16, generator=random)
    sample = Sample(turns=(turn,), image_3HW=image, depth=depth, codes={"depth": torch.arange(16) % 8})
    collate = Collate.of(model.recipe, model.language.text_tokenizer)
    return model.with_targets(collate([sample]))


def total(model, batch):
    objective = Objective(model.recipe)
    counts = {name: max(count, 1) for name, count in objective.counts([batch]).items()}
    return objective(model(batch, objective.required_outputs), batch, counts).total


def test_a_frozen_bfloat16_language_model_trains_float32_parts(model, batch):
    exact = total(model, batch).item()
    model.language.to(torch.bfloat16)
    loss = total(model, batch)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact, rel=0.02)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in gradients} == {"vision", "vision_head", "streams", "heads"}
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32 and gradient.isfinite().all(), name


def test_a_bfloat16_language_model_answers(model):
    model.language.to(torch.bfloat16)
    answer = model.eval().ask(
        torch.rand(3, 16, 16), "Which point is closest?", points=[(0.2, 0.3), (0.8, 0.5)]
    )
    assert answer.tokens


def test_soft_merging_is_in_float32_under_autocast(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch, {"streams.depth.logits_NXV", "streams.depth.soft"}).streams["depth"]
    assert output.logits_NXV.dtype == torch.bfloat16
    codes_NLK = output.logits_NXV[:, 1:-1, model.plan.readout_block.codebooks[0].slice]
    expected_N1HW = model.stream("depth").tokenizer.soft_decode(codes_NLK.float().softmax(-1))
    assert output.soft.dtype == torch.float32
    torch.testing.assert_close(output.soft, expected_N1HW, rtol=0, atol=0)
