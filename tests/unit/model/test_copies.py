"""Recipes and models can be hashed, copied, pickled and sent to a process that is started anew."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
from small import small_recipe

from perceptio import build_model, fingerprint, load_recipe


@pytest.fixture(scope="module", params=["small", "perceptio_8b:tiny"])
def model(request):
    recipe = small_recipe() if request.param == "small" else load_recipe(request.param)
    return build_model(recipe).eval()


def through_a_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it)), through_a_file])
def test_a_copy_of_a_model_is_the_same_model_and_another(model, copied):
    other = copied(model)
    held, same = model.state_dict(), other.state_dict()
    assert held.keys() == same.keys() and all(torch.equal(held[name], same[name]) for name in held)
    assert other.recipe == model.recipe and fingerprint(other.recipe) == fingerprint(model.recipe)
    image = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert other.ask(image, "Which?").tokens == model.ask(image, "Which?").tokens
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert not torch.equal(next(other.parameters()), next(model.parameters()))


def test_a_recipe_is_a_value():
    recipe = small_recipe()
    for other in (copy.deepcopy(recipe), pickle.loads(pickle.dumps(recipe))):
        assert other == recipe and hash(other) == hash(recipe)
    with pytest.raises(AttributeError):
        recipe.data.mixture.update({})


def test_a_spawned_process_is_given_a_recipe():
    recipe = load_recipe("perceptio_tiny")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(fingerprint, (recipe,)) == fingerprint(recipe)
