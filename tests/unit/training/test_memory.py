"""What training holds in memory, counted by hand; what a step needed; what is said when there is too little."""

import attrs
import pytest
import torch
from small import small_recipe

from perceptio.errors import RecipeError, TrainingError
from perceptio.model.perception_model import build_model
from perceptio.recipe import TrainConfig
from perceptio.training.memory import GIB, MemoryPlan, advice_when_out_of_memory, peak_memory
from perceptio.training.optimizer import Optimizers


def trained_count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_weights_gradients_and_two_moments():
    recipe = small_recipe()
    model = build_model(recipe)
    plan = MemoryPlan.of(model, recipe.train)
    assert plan.gradients == 4 * trained_count(model)
    assert plan.optimizer == 8 * trained_count(model)
    held = {id(t): t for t in [*model.parameters(), *model.buffers()]}.values()
    assert plan.weights == sum(t.numel() * t.element_size() for t in held)
    assert plan.training == plan.weights + plan.gradients + plan.optimizer
    assert MemoryPlan.of(build_model(recipe, device="meta"), recipe.train) == plan


def test_the_optimizer_holds_what_was_planned():
    recipe = small_recipe()
    train = attrs.evolve(recipe.train, muon={"language.trunk": 0.02}, train=("language",))
    model = build_model(attrs.evolve(recipe, train=train))
    optimizers = Optimizers(model, train)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizers.step()
    states = [state for optimizer in optimizers._all for state in optimizer.state.values()]
    moments = [value for state in states for key, value in state.items() if key != "step"]
    assert MemoryPlan.of(model, train).optimizer == sum(m.numel() * m.element_size() for m in moments)


def test_half_precision_that_does_not_train_halves_the_weights():
    recipe = small_recipe()
    recipe = attrs.evolve(recipe, train=attrs.evolve(recipe.train, train=("vision_head",)))
    model = build_model(recipe)
    before = MemoryPlan.of(model, recipe.train)
    model.language.to(torch.bfloat16)
    after = MemoryPlan.of(model, recipe.train)
    assert (before.gradients, before.optimizer) == (after.gradients, after.optimizer)
    language = [*model.language.parameters(), *model.language.buffers()]
    assert before.weights - after.weights == 2 * sum(t.numel() for t in language if t.is_floating_point())


def test_weights_that_train_must_be_float32():
    model = build_model(small_recipe())
    model.language.to(torch.bfloat16)
    with pytest.raises(
        RecipeError, match="language.embedding.weight is to train and its weights are bfloat16.*leave it out"
    ):
        Optimizers(model, small_recipe().train)


def test_the_peak_is_named_after_what_was_measured():
    ((name, value),) = peak_memory(torch.device("cpu")).items()
    assert name == "peak_resident_gib" and 0.01 < value < 1e3 and GIB == 1024**3


@pytest.mark.parametrize(
    ("config", "said", "unsaid"),
    [
        (
            TrainConfig(micro_batch_size=4),
            r"lower train.micro_batch_size \(4\) and raise train.grad_accumulation \(1\), or set "
            "train.precision=bf16, or turn on gradient checkpointing",
            "nothing",
        ),
        (
            TrainConfig(micro_batch_size=1, precision="bf16"),
            "Tried to allocate 2 GiB.: turn on",
            "micro_batch_size|precision",
        ),
    ],
)
def test_without_enough_memory_it_says_what_to_lower(config, said, unsaid):
    with pytest.raises(TrainingError, match=said) as raised, advice_when_out_of_memory(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
    import re

    assert "more" not in str(raised.value) and not re.search(unsaid, str(raised.value))
