"""The peak of a step that is foretold is that of the step when everything is computed."""

import attrs
import pytest
import torch
from small import scenes_folder, small_recipe

from perceptio.errors import DataError, RecipeError
from perceptio.losses.next_token import NextToken
from perceptio.model.perception_model import build_model
from perceptio.ops.live_memory import LiveMemory
from perceptio.recipe import DataFolder
from perceptio.settings import load_recipe
from perceptio.training import foretold
from perceptio.training.foretold import foretell
from perceptio.training.memory import LIBRARIES, MemoryPlan


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("foretold") / "scenes", count=6)


def on(recipe, folder, **train):
    data = attrs.evolve(recipe.data, folders=(DataFolder(path=str(folder)),))
    return attrs.evolve(recipe, data=data, train=attrs.evolve(recipe.train, **train))


def given_values(memory, tensor, device):
    """In place of `LiveMemory.without_values`: small random values."""
    return torch.randn(tensor.shape, dtype=tensor.dtype, device=device) * 0.02


@pytest.mark.parametrize(("name", "accumulation"), [("small", 1), ("perceptio_1b:tiny", 3)])
def test_it_is_the_peak_of_a_step_that_is_computed(scenes, monkeypatch, name, accumulation):
    monkeypatch.setattr(foretold, "BATCHES", 2)
    recipe = small_recipe() if name == "small" else load_recipe(name)
    recipe = on(recipe, scenes, micro_batch_size=2, grad_accumulation=accumulation)
    without = foretell(recipe)
    monkeypatch.setattr(LiveMemory, "without_values", given_values)
    computed = foretell(recipe)
    assert without.peak == pytest.approx(computed.peak, rel=0.001)
    assert (without.held, without.lengths, without.images) == (
        computed.held,
        computed.lengths,
        computed.images,
    )


def test_what_is_held_and_what_the_step_was_of(scenes, monkeypatch):
    monkeypatch.setattr(foretold, "BATCHES", 4)
    recipe = on(small_recipe(), scenes, micro_batch_size=3, precision="fp32")
    step, plan = foretell(recipe), MemoryPlan.of(build_model(recipe, device="meta"), recipe.train)
    counts_of_steps = 4 * len([p for p in build_model(recipe, device="meta").parameters() if p.requires_grad])
    assert step.held == pytest.approx(plan.weights + plan.optimizer + counts_of_steps, rel=0.01)
    assert step.peak > plan.training and step.resident == step.peak + LIBRARIES
    assert not step.bf16 and step.device.type == "cpu" and len(step.lengths) >= 3
    larger = foretell(on(recipe, scenes, micro_batch_size=6))
    assert larger.peak > step.peak and larger.held == step.held


def test_without_data_or_losses_there_is_no_step(tmp_path, scenes):
    with pytest.raises(RecipeError, match="small names no data, without which no step can be foretold"):
        foretell(small_recipe())
    with pytest.raises(RecipeError, match="small names no losses"):
        foretell(attrs.evolve(on(small_recipe(), scenes), losses=(), heads={}))
    with pytest.raises(DataError, match="nowhere"):
        foretell(on(small_recipe(), tmp_path / "nowhere"))


def test_a_part_that_looks_at_what_nothing_computes_is_refused(scenes, monkeypatch):
    whole = NextToken.forward

    def looking(self, output, batch):
        value = whole(self, output, batch)
        assert value.total.item() >= 0
        return value

    monkeypatch.setattr(NextToken, "forward", looking)
    with pytest.raises(
        RecipeError, match=r"looks at values that nothing computes \(aten._local_scalar_dense"
    ):
        foretell(on(small_recipe(), scenes))
