"""The total: sums divided by counts over everything that is accumulated, then weighted."""

import attrs
import pytest
import torch
from fakes import FakeDepthConfig, tiny_recipe

from perceptio.data.collate import Collate
from perceptio.errors import InterfaceError, RecipeError
from perceptio.interfaces import Batch, DepthMap, Loss, LossValue, Sample, Turn
from perceptio.losses.code_tokens import TokenConfig
from perceptio.losses.masks import DiceConfig
from perceptio.model.perception_model import PerceptionModel, build_model
from perceptio.recipe import Stream, WeightedLoss
from perceptio.training.objective import Objective


def conversation(answer: str, perceive: tuple[str, ...] = ("depth",)) -> Sample:
    turn = Turn(question="Which", answer=answer, task="depth_map", perceive=perceive)
    depth = DepthMap(values_HW=torch.linspace(1, 15, 256).reshape(16, 16).numpy(), unit="metres")
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(len(answer)))
    return Sample(turns=(turn,), image_3HW=image, depth=depth, codes={"depth": torch.arange(16) % 8})


def collated(model: PerceptionModel, *samples: Sample) -> Batch:
    return model.with_targets(Collate.of(model.recipe, model.language.text_tokenizer)(samples))


def test_micro_steps_add_up_to_one_step() -> None:
    torch.manual_seed(0)
    recipe = tiny_recipe()
    model = build_model(recipe)
    objective = Objective(recipe)
    samples = [conversation("red"), conversation("a longer answer", perceive=())]

    def gradient(batches: list[list[Sample]]) -> torch.Tensor:
        model.zero_grad()
        packed = [collated(model, *batch) for batch in batches]
        counts = {name: max(count, 1) for name, count in objective.counts(packed).items()}
        for batch in packed:
            objective(model(batch, objective.required_outputs), batch, counts).total.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    torch.testing.assert_close(
        gradient([samples]), gradient([[samples[0]], [samples[1]]]), atol=1e-6, rtol=1e-5
    )


class Lying(Loss):
    """Says and returns what it is told to."""

    required_outputs = ("text_logits_RV",)

    def __init__(self, counted, returned):
        super().__init__()
        self.counted, self.returned = counted, returned

    def count(self, batch):
        return self.counted

    def forward(self, output, batch):
        return self.returned


ZERO, PAIR = torch.zeros(()), torch.zeros(2)


@pytest.mark.parametrize(
    ("counted", "returned", "message"),
    [
        (torch.tensor(3), None, r"counts tensor\(3\) items; a count is a whole number, 0 or more"),
        (-5, None, "counts -5 items"),
        (float("nan"), None, "counts nan items"),
        (1, ZERO, "returned a Tensor; it must return a LossValue"),
        (1, LossValue(total=ZERO, count=1, metrics=None), "returned the metrics None; give a mapping"),
        (1, LossValue(total=PAIR, count=1), r"returned the total of shape \[2\]; it must be a scalar tensor"),
        (
            1,
            LossValue(total=ZERO, count=1, metrics={"p": 0.5}),
            "returned the p 0.5; it must be a scalar tensor",
        ),
    ],
)
def test_what_a_loss_must_not_say_or_return_is_named(counted, returned, message):
    objective = Objective(tiny_recipe())
    objective.terms = torch.nn.ModuleDict({"next_token": Lying(counted, returned)})
    with pytest.raises(InterfaceError, match=f"^The loss next_token {message}"):
        objective.counts([None])
        objective(
            None, attrs.make_class("Batch", {"ids_T": attrs.field(default=PAIR)})(), {"next_token": 1.0}
        )


def test_a_term_without_items_contributes_nothing() -> None:
    recipe = tiny_recipe()
    model = build_model(recipe)
    objective = Objective(recipe)
    batch = collated(model, conversation("red", perceive=()))
    counts = {name: max(count, 1) for name, count in objective.counts([batch]).items()}

    terms = objective(model(batch, objective.required_outputs), batch, counts)

    assert {name.split(".")[0] for name in terms.sums} == {"next_token"}
    assert terms.total.item() == pytest.approx(terms.sums["next_token"][0].item() / counts["next_token"])


def test_weights_multiply_and_reads_are_a_union() -> None:
    recipe = tiny_recipe()
    heavier = attrs.evolve(recipe, losses=tuple(attrs.evolve(w, weight=3 * w.weight) for w in recipe.losses))
    model = build_model(recipe)
    batch = collated(model, conversation("red"))
    objective, tripled = Objective(recipe), Objective(heavier)
    counts = {name: max(count, 1) for name, count in objective.counts([batch]).items()}
    output = model(batch, objective.required_outputs)

    once, thrice = objective(output, batch, counts).total, tripled(output, batch, counts).total

    assert thrice.item() == pytest.approx(3 * once.item())
    assert objective.required_outputs == {
        "text_logits_RV",
        "streams.depth.logits_NXV",
        "streams.depth.soft",
        "streams.segmentation.decoded",
    }


@pytest.mark.parametrize("returned", [None, 1.0])
def test_a_loss_that_returns_something_else_is_named(returned) -> None:
    recipe = tiny_recipe()
    model, objective = build_model(recipe), Objective(recipe)
    batch = collated(model, conversation("red"))
    output = model(batch, objective.required_outputs)
    objective.terms["next_token"].forward = lambda output, batch: returned
    with pytest.raises(InterfaceError, match="The loss next_token returned .*; it must return a LossValue"):
        objective(output, batch, dict.fromkeys(objective.counts([batch]), 1))


def test_a_loss_may_be_given_once_for_each_stream_with_a_weight_of_its_own() -> None:
    recipe = tiny_recipe()
    recipe = attrs.evolve(
        recipe,
        streams=(*recipe.streams, Stream(name="nearness", tokenizer=FakeDepthConfig())),
        losses=(
            WeightedLoss(loss=TokenConfig(stream="depth"), weight=0.5),
            WeightedLoss(loss=TokenConfig(stream="nearness"), weight=2.0),
        ),
    )
    recipe.check()
    model, objective = build_model(recipe), Objective(recipe)
    sample = conversation("red", perceive=("depth", "nearness"))
    sample = attrs.evolve(sample, codes=dict.fromkeys(("depth", "nearness"), torch.arange(16) % 8))
    batch = collated(model, sample)
    counts = objective.counts([batch])
    terms = objective(model(batch, objective.required_outputs), batch, counts)
    assert objective.weights == {"depth_token": 0.5, "nearness_token": 2.0}
    depth, nearness = (terms.sums[name][0] / counts[name] for name in ("depth_token", "nearness_token"))
    torch.testing.assert_close(terms.total.detach(), 0.5 * depth + 2.0 * nearness)


def test_two_losses_of_one_name_are_refused() -> None:
    recipe = tiny_recipe()
    twice = attrs.evolve(
        recipe, losses=(*recipe.losses, WeightedLoss(loss=DiceConfig(stream="segmentation")))
    )
    with pytest.raises(
        RecipeError,
        match="Two losses are called segmentation_dice; leave one out, give it another stream, or",
    ):
        Objective(twice)
