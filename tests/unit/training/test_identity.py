"""What counts as the same run."""

import attrs
import pytest
from small import small_recipe

from perceptio.recipe import TrainConfig
from perceptio.serialize import to_json
from perceptio.settings import with_settings
from perceptio.training.identity import (
    BOOKKEEPING,
    ELSEWHERE,
    SCHEDULE,
    differences,
    run_identity,
    schedule_difference,
    used_schedule,
)
from perceptio.training.optimizer import learning_rate_at

TRAIN = TrainConfig(steps=10, warmup_steps=2)


def identity(recipe, data=("abc",), processes=1, bf16=False, trains=("depth",)):
    return run_identity(recipe, data, processes=processes, bf16=bf16, trains=trains)


def test_every_setting_that_does_not_count_exists():
    names = (*BOOKKEEPING, *ELSEWHERE, *SCHEDULE)
    document = to_json(small_recipe())
    for name in names:
        held = document
        for key in name.split("."):
            assert key in held, name
            held = held[key]
    assert len(names) == 13


def test_what_differs_is_named_with_both_values(tmp_path):
    recipe = small_recipe(tmp_path)
    changes = {"losses.segmentation_dice.weight": 2.0, "streams.depth.training.steps": 5, "train.seed": 3}
    changed = with_settings(recipe, changes)
    assert differences(identity(recipe), identity(recipe)) == []
    assert differences(identity(recipe), identity(changed)) == [
        "streams.depth.training.steps was 4 and is 5",
        "losses.segmentation_dice.weight was 0.5 and is 2.0",
        "train.seed was 0 and is 3",
    ]
    untrained = identity(recipe, trains=())
    assert untrained == identity(with_settings(recipe, {"streams.depth.training.steps": 5}), trains=())
    swapped = attrs.evolve(recipe, streams=recipe.streams[::-1])
    assert differences(identity(recipe), identity(swapped)) == [
        "streams was ['segmentation', 'depth'] and is ['depth', 'segmentation']"
    ]
    other = identity(recipe, data=("abd",), processes=2, bf16=True)
    assert differences(identity(recipe), other) == [
        "data.folders.0 holds other data",
        "precision was 'fp32' and is 'bf16'",
        "processes was 1 and is 2",
    ]
    fewer = attrs.evolve(recipe, losses=recipe.losses[1:])
    name = recipe.losses[0].loss.term
    assert any(
        one.startswith(f"losses.{name}.") and one.endswith("and is not there")
        for one in differences(identity(recipe), identity(fewer))
    )


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [0.5, 1.0, 1.0, 0.5, 0.0]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("stable_decay", [0.5, 1.0, 1.0, 1.0, 0.0]),
    ],
)
def test_schedules(schedule, expected):
    """Steps 0 and 1 warm up; of ten steps the last four go down."""
    train = attrs.evolve(TRAIN, schedule=schedule, decay=0.4)
    assert [learning_rate_at(step, train) for step in (0, 1, 2, 6, 10)] == pytest.approx(expected)
    if schedule == "stable_decay":
        assert [learning_rate_at(step, train) for step in (7, 8, 9)] == pytest.approx([0.75, 0.5, 0.25])


@pytest.mark.parametrize(
    ("schedule", "done", "same"),
    [
        ("constant", 10, True),
        ("stable_decay", 7, True),
        ("stable_decay", 8, False),
        ("cosine", 3, True),
        ("cosine", 4, False),
    ],
)
def test_more_steps_are_the_same_run_while_no_rate_would_have_been_another(schedule, done, same):
    train = attrs.evolve(TRAIN, schedule=schedule, decay=0.4)
    said = schedule_difference(used_schedule(train), attrs.evolve(train, steps=20), done)
    assert (said is None) == same
    if not same:
        assert said.startswith(
            f"train.steps was 10 and is 20, so that the steps done so far ({done}) would have"
        )


def test_a_setting_that_is_declared_later_is_no_difference_while_it_is_at_its_default():
    recipe = with_settings(small_recipe("data"), {"train.lr": 5e-4})
    now = identity(recipe)
    before = {name: value for name, value in now.items() if name not in ("data.too_long", "train.lr")}
    told = run_identity(recipe, ("abc",), processes=1, bf16=False, trains=("depth",), defaults=False)
    assert told.items() < now.items()
    at_default = now.keys() - told.keys()
    assert "data.too_long" in at_default and "train.lr" not in at_default
    (said,) = differences(before, now, at_default=at_default)
    assert said.startswith("train.lr was not there and is ")
    assert differences(now | {"data.too_long": "skip"}, now, at_default=at_default) == [
        "data.too_long was 'skip' and is 'refuse'"
    ]
