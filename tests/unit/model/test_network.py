"""The forward pass is padded to few different sizes, on which only its speed depends."""

import pytest
import torch
from small import small_recipe

from perceptio.data.collate import Collate
from perceptio.interfaces import DepthMap, Sample, Turn
from perceptio.model import network
from perceptio.model.perception_model import build_model
from perceptio.training.objective import Objective


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model(small_recipe())


def batch_of(model, *questions):
    """A conversation for each question, with a depth block and a mask."""
    masks = ((torch.arange(256).reshape(16, 16) % 3 == 0).numpy(),)
    depth = DepthMap(values_HW=torch.linspace(1, 15, 256).reshape(16, 16).numpy(), unit="metres")
    samples = [
        Sample(
            turns=(
                Turn(
                    question=question,
                    answer="red",
                    task="any",
                    masks=masks,
                    perceive=("segmentation", "depth"),
                ),
            ),
            image_3HW=torch.linspace(0, 1, 768).reshape(3, 16, 16),
            depth=depth,
            codes={"depth": torch.arange(16) % 8},
        )
        for question in questions
    ]
    return model.with_targets(Collate.of(model.recipe, model.language.text_tokenizer)(samples))


def loss_and_gradients(model, batch):
    objective = Objective(model.recipe)
    counts = {name: max(count, 1) for name, count in objective.counts([batch]).items()}
    terms = objective(model(batch, objective.required_outputs), batch, counts)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [terms.total.detach(), *torch.autograd.grad(terms.total, trained, allow_unused=True)]


def test_padding_changes_neither_losses_nor_gradients(model, monkeypatch):
    batch = batch_of(model, "Which", "Which is it")
    assert len(batch.ids_T) % network.SIZE_MULTIPLE
    padded = loss_and_gradients(model, batch)
    monkeypatch.setattr(network, "SIZE_MULTIPLE", 1)
    unpadded = loss_and_gradients(model, batch)
    assert sum(gradient is not None for gradient in unpadded) > 10
    torch.testing.assert_close(padded, unpadded, rtol=1e-5, atol=1e-7)


def test_batches_of_different_lengths_are_computed_at_one_size(model, monkeypatch):
    seen = []
    language = model.language
    for name in ("forward", "logits"):
        method = getattr(language, name)
        monkeypatch.setattr(
            language, name, lambda x, *rest, m=method, n=name: (seen.append((n, x.shape[-2])), m(x, *rest))[1]
        )
    batches = [batch_of(model, question) for question in ("Which", "Which one is it")]
    assert len({len(batch.ids_T) for batch in batches}) == 2
    sizes = []
    for batch in batches:
        model(batch, Objective(model.recipe).required_outputs)
        sizes.append(seen[:])
        seen.clear()
    assert sizes[0] == sizes[1] and [name for name, _ in sizes[0]] == ["forward", "logits"]
    assert all(size % network.SIZE_MULTIPLE == 0 for _, size in sizes[0])
