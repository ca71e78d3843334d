"""The optimizers' state comes back as they keep it themselves."""

import attrs
import pytest
import torch
from small import small_recipe

from perceptio.model.perception_model import build_model
from perceptio.training.optimizer import Optimizers


@pytest.fixture
def recipe():
    recipe = small_recipe()
    train = attrs.evolve(recipe.train, muon={"language.trunk": 0.02}, train=("language",))
    return attrs.evolve(recipe, train=train)


def states(optimizers, model):
    return {
        f"{name}/{key}": value
        for optimizer in optimizers._all
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


@pytest.fixture
def saved(recipe, tmp_path):
    """A state after one step, and the file it was saved to."""
    model = build_model(recipe)
    optimizers = Optimizers(model, recipe.train)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.rand_like(parameter)
    optimizers.step()
    optimizers.save(tmp_path / "optimizer.safetensors")
    return states(optimizers, model), tmp_path / "optimizer.safetensors"


def test_a_state_comes_back_as_it_was(recipe, saved):
    before, path = saved
    model = build_model(recipe)
    optimizers = Optimizers(model, recipe.train)
    optimizers.load(path)
    after = states(optimizers, model)
    assert after.keys() == before.keys() and {key.rpartition("/")[2] for key in after} > {"step"}
    for key, value in after.items():
        assert value.equal(before[key]), key


def test_a_state_comes_back_to_where_its_parameter_is(recipe, saved):
    """The meta device stands for a GPU: fused AdamW has even its count of steps beside the parameter there."""
    before, path = saved
    model = build_model(recipe, device="meta")
    optimizers = Optimizers(model, recipe.train)
    optimizers.load(path)
    after = states(optimizers, model)
    assert after.keys() == before.keys()
    assert {value.device.type for value in after.values()} == {"meta"}
