"""The likelihood of given answers: what training would say of them, whatever else is in the batch."""

import attrs
import pytest
import torch
from fakes import tiny_recipe

from perceptio.data.collate import Collate
from perceptio.errors import CheckpointError
from perceptio.interfaces import GenerationSettings, Sample, Turn
from perceptio.model.inference.generation import generate
from perceptio.model.inference.likelihood import answer_likelihoods
from perceptio.model.perception_model import build_model

PLAIN = GenerationSettings(streams=(), readout=False)
PERCEIVING = GenerationSettings(streams=("depth",), force=("depth",), readout=False, max_new_tokens=4)
ANSWERS = ("red", "the red sphere", "")


def turn(question="What color is it?", answer=""):
    return Turn(question=question, answer=answer, task="plain")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(tiny_recipe()).eval()


@pytest.fixture(scope="module")
def image_3HW():
    return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pictured", [True, False])
def test_it_is_what_a_forward_pass_of_training_says(model, image_3HW, pictured):
    images, index = ([image_3HW], [0] * len(ANSWERS)) if pictured else ([], [])
    found = answer_likelihoods(model, [turn()] * len(ANSWERS), images, index, ANSWERS, PLAIN)
    collate = Collate.of(model.recipe, model.language.text_tokenizer)
    for answer, likelihood in zip(ANSWERS, found, strict=True):
        sample = Sample(turns=(turn(answer=answer),), image_3HW=image_3HW if pictured else None)
        batch = model.with_targets(collate([sample]))
        with torch.no_grad():
            logits_RV = model(batch, {"text_logits_RV"}).text_logits_RV[:, : model.plan.base_vocab]
        told = logits_RV.log_softmax(-1).gather(1, batch.text_targets_R[:, None]).sum()
        assert likelihood.log_likelihood == pytest.approx(float(told), rel=1e-4)
        assert likelihood.ids == len(batch.text_targets_R)


def test_it_is_that_of_answering_after_perceiving(model, image_3HW):
    generated = generate(model, [turn()], [image_3HW], [0], PERCEIVING)
    codes_L = generated.streams["depth"].codes_BOL[0, 0]
    (found,) = answer_likelihoods(model, [turn()], [image_3HW], [0], ["the red sphere"], PERCEIVING)
    said = attrs.evolve(turn(answer="the red sphere"), perceive=("depth",))
    sample = Sample(turns=(said,), image_3HW=image_3HW, codes={"depth": codes_L})
    batch = Collate.of(model.recipe, model.language.text_tokenizer)([sample])
    batch = attrs.evolve(
        batch, streams={name: attrs.evolve(held, raw=()) for name, held in batch.streams.items()}
    )
    with torch.no_grad():
        logits_RV = model(batch, {"text_logits_RV"}).text_logits_RV[:, : model.plan.base_vocab]
    told = logits_RV.log_softmax(-1).gather(1, batch.text_targets_R[:, None]).sum()
    assert found.log_likelihood == pytest.approx(float(told), rel=1e-4) and not found.likeliest


def test_what_the_model_would_write_is_the_likeliest(model, image_3HW, monkeypatch):
    settings = attrs.evolve(PERCEIVING, max_new_tokens=3)
    written = generate(model, [turn()], [image_3HW], [0], settings).text_BT[0].tolist()
    end = model.language.text_tokenizer.end_id
    after = generate(model, [turn()], [image_3HW], [0], PERCEIVING).text_BT[0, 3].item()
    assert end not in written
    monkeypatch.setattr("perceptio.model.inference.likelihood.encoded", lambda tokenizer, answer: written)
    monkeypatch.setattr(model.language.text_tokenizer, "end_id", after)
    (likelihood,) = answer_likelihoods(model, [turn()], [image_3HW], [0], ["as written"], PERCEIVING)
    assert likelihood.likeliest and likelihood.ids == 4 and likelihood.log_likelihood < 0


def test_logits_that_are_no_numbers_are_said(image_3HW):
    model = build_model(tiny_recipe()).eval()
    torch.nn.init.constant_(next(iter(model.vision_head.parameters())), float("nan"))
    with pytest.raises(CheckpointError, match="The model's logits are not finite numbers"):
        answer_likelihoods(model, [turn()], [image_3HW], [0], ["red"], PLAIN)
