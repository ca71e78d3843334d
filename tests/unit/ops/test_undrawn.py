"""A module built without drawing is the module, but for the values of its parameters."""

import logging
import threading

import pytest
import torch
from torch import nn

from perceptio.ops.undrawn import without_drawing


class Tied(nn.Module):
    """Parameters that are tied, frozen, marked and held in a list, and buffers of both kinds."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(3, 4)
        self.last.weight = self.first.weight
        self.first.weight.mark = "kept"
        self.frozen = nn.Parameter(torch.randn(2, dtype=torch.bfloat16), requires_grad=False)
        self.held = [self.first.bias]
        self.normal = nn.BatchNorm1d(4)
        self.register_buffer("mean", torch.tensor([1.0, 2.0]), persistent=False)


def test_everything_but_the_values_is_as_it_is_otherwise():
    module, drawn = without_drawing(Tied), Tied()
    assert {n: (p.shape, p.dtype, p.device, p.requires_grad) for n, p in module.named_parameters()} == {
        n: (p.shape, p.dtype, p.device, p.requires_grad) for n, p in drawn.named_parameters()
    }
    assert module.last.weight is module.first.weight and module.held[0] is module.first.bias
    assert module.first.weight.mark == "kept"
    assert module.mean.tolist() == [1, 2] and module.normal.running_var.tolist() == [1] * 4
    module.load_state_dict(drawn.state_dict())
    inputs = torch.randn(2, 3)
    assert torch.equal(module.last(inputs), drawn.last(inputs))
    module.last(inputs).sum().backward()
    assert module.first.weight.grad is not None


def test_a_layer_draws_nothing():
    before = torch.get_rng_state()
    without_drawing(lambda: nn.Sequential(nn.Linear(8, 8), nn.Conv2d(3, 8, 3), nn.Embedding(4, 8)))
    assert torch.equal(torch.get_rng_state(), before)


def test_only_this_threads_parameters_are_meant():
    made = []

    def build():
        other = threading.Thread(target=lambda: made.append(nn.Linear(2, 2)))
        other.start()
        other.join()
        assert nn.Linear(2, 2).weight.is_meta
        return nn.Linear(2, 2)

    without_drawing(build)
    assert not made[0].weight.is_meta and not nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize(
    ("computed", "reason"),
    [
        (lambda weight: weight.detach().sum(0), "the buffer computed is computed from parameters"),
        (lambda weight: torch.tensor(weight.sum().item()), "item"),
    ],
)
def test_what_computes_from_its_parameters_is_built_as_ever(computed, reason, caplog):
    def build():
        module = nn.Linear(2, 2)
        module.register_buffer("computed", computed(module.weight), persistent=False)
        return module

    with caplog.at_level(logging.INFO):
        module = without_drawing(build)
    torch.testing.assert_close(module.computed, computed(module.weight.detach()))
    assert "Parameters are drawn before they are read" in caplog.text and reason in caplog.text
