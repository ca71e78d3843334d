"""The levels that training puts in context: of the codes of a data folder, worked out by hand."""

import json

import attrs
import pytest
import torch
from fakes import FakeDepthConfig
from small import scenes_folder, small_recipe

from perceptio.data.conversations import ConversationSampler
from perceptio.data.folder import FolderDataset
from perceptio.data.image_pools import images_with_points
from perceptio.model.perception_model import load
from perceptio.recipe import PointValues
from perceptio.settings import with_settings
from perceptio.training.point_levels import levels_of_points
from perceptio.training.trainer import METRICS, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes_folder(tmp_path_factory.mktemp("data") / "scenes", count=8)


def test_every_point_has_the_level_of_its_place_on_the_decoded_map(folder):
    """One code for the upper half and one for the lower: with 8 codes and 8 levels each code is a level."""
    dataset = FolderDataset(folder)
    tokenizer = FakeDepthConfig().build()
    codes_nL = torch.tensor([[number % 8] * 8 + [(number + 3) % 8] * 8 for number in range(8)])
    codes_nL[2] = -1
    (images,) = images_with_points(small_recipe(folder), [dataset])

    found = levels_of_points(tokenizer, dataset, images.tolist(), codes_nL, 8)

    points = {n: {p for turn in dataset.turns(n) for p in turn.points} for n in images.tolist()}
    assert set(found) == {number for number, marked in points.items() if marked} - {2} != set()
    for number, levels in found.items():
        assert set(levels) == points[number]
        for (_, y), level in levels.items():
            code = codes_nL[number, 0 if y < 0.5 else 8].item()
            assert level == 7 - code  # Far is one.


VALUES = PointValues(levels=4)


@pytest.mark.parametrize(
    ("answer_format", "values", "data"),
    [
        ("lookup", VALUES, {}),
        ("lookup", attrs.evolve(VALUES, trained_with="own_codes", decoding="soft"), {}),
        ("lookup", attrs.evolve(VALUES, source="vision_head"), {"data.perceive": "separate_task"}),
        ("readout", VALUES, {}),
    ],
)
def test_a_model_with_levels_trains_is_measured_is_saved_and_answers(
    answer_format, values, data, folder, tmp_path
):
    recipe = small_recipe(folder, answer_format=answer_format, point_values=values)
    changes = {"train.steps": 2, "data.validation": [str(folder)], "train.validation.samples": 4}
    recipe = with_settings(recipe, changes | data)

    model = train(recipe, tmp_path / "run")

    last = json.loads((tmp_path / "run" / METRICS).read_text().splitlines()[-1])
    assert last["step"] == 2 and last["validation.loss"] > 0
    sample = FolderDataset(folder)[0]
    question = {"points": ((0.2, 0.2), (0.8, 0.7))}
    answer = model.ask(sample.image_3HW, "Which point is closest to the camera?", **question)
    again = load(tmp_path / "run").ask(sample.image_3HW, "Which point is closest to the camera?", **question)
    assert (answer.text, answer.readout) == (again.text, again.readout) and len(answer.readout) == 2
    levels = [token for token in answer.tokens if token.startswith("<level_")]
    assert levels == [f"<level_{level}>" for level in answer.readout if level >= 0]


def test_shuffled_marks_take_their_levels_along(folder):
    recipe = small_recipe(folder, answer_format="lookup", point_values=VALUES)
    dataset = FolderDataset(folder)
    codes_nL = torch.arange(8 * 16).reshape(8, 16) % 8
    (images,) = images_with_points(recipe, [dataset])
    levels = levels_of_points(FakeDepthConfig().build(), dataset, images.tolist(), codes_nL, 4)
    sampler = ConversationSampler(recipe, [dataset], {"depth": [codes_nL]}, [levels])
    known = {point: level for held in levels.values() for point, level in held.items()}
    orders = set()
    for number in range(8):
        for sample in sampler.draw(number, 4):
            for turn in sample.turns:
                if turn.task == "relative_depth":
                    assert turn.readout and turn.levels == tuple(known[point] for point in turn.points)
                    orders.add(turn.points)
    assert len(orders) > len(images)


def test_without_its_block_a_conversation_looks_nothing_up(folder):
    """A subset of the streams is written: where the map is not, its values are not given either."""
    recipe = with_settings(
        small_recipe(folder, answer_format="lookup", point_values=VALUES), {"data.streams": "random_subset"}
    )
    dataset, codes_nL = FolderDataset(folder), torch.zeros(8, 16, dtype=torch.long)
    (images,) = images_with_points(recipe, [dataset])
    levels = levels_of_points(FakeDepthConfig().build(), dataset, images.tolist(), codes_nL, 4)
    sampler = ConversationSampler(recipe, [dataset], {"depth": [codes_nL]}, [levels])
    seen = set()
    for number in range(10):
        for sample in sampler.draw(number, 4):
            written = False
            for turn in sample.turns:
                written = written or "depth" in turn.perceive
                if turn.task == "relative_depth" and sample.image_3HW is not None:
                    assert turn.readout == written
                    seen.add(written)
    assert seen == {True, False}
