"""The codes of places: which feature answers for which."""

import attrs
import pytest
import torch
from made_up import BATCH, batch_with, model_with
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import CodeGroup, PerceptionOutput, VisionFeatures
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.testing.component import BLOCK, MODEL

CONFIG = CellCodesConfig(stream="depth")
CENTERS = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])
CODES_BL = BATCH.streams["depth"].image_codes_BL


def output(logits_MK, centers=CENTERS):
    vision = VisionFeatures(
        features_MD=torch.zeros(len(logits_MK), 3),
        centers_M2=centers.repeat(2, 1),
        counts=(len(centers),) * 2,
    )
    return PerceptionOutput(vision=vision, heads={"depth": logits_MK})


def test_each_place_is_read_at_its_own_feature():
    loss = CONFIG.build(MODEL)
    logits = 100.0 * F.one_hot(CODES_BL.flatten(), 8).float()
    value = loss(output(logits), BATCH)
    assert value.total.item() == pytest.approx(0.0, abs=1e-6)
    assert value.metrics["cell_accuracy"] == 8
    turned = loss(output(logits, CENTERS.flip(0)), BATCH)  # The same features, lying elsewhere.
    assert turned.metrics["cell_accuracy"] < 8


def test_images_without_codes_are_left_out():
    loss = CONFIG.build(MODEL)
    codes = CODES_BL.clone()
    codes[0] = -1
    batch = batch_with("depth", image_codes_BL=codes, coded=(False, True))
    assert loss.count(batch) == 4
    logits = torch.zeros(8, 8)
    assert loss(output(logits), batch).total.item() == pytest.approx(4 * torch.log(torch.tensor(8.0)).item())


def test_of_several_groups_the_last_is_read():
    groups = (CodeGroup(length=1), CodeGroup.on_grid((1, 3)))
    loss = CONFIG.build(model_with("depth", tokens=attrs.evolve(BLOCK, groups=groups, grid=None)))
    assert loss.required_outputs == ("vision", "heads.depth")
    torch.testing.assert_close(loss.centers_L2, torch.tensor([[0.5, 1 / 6], [0.5, 0.5], [0.5, 5 / 6]]))
    centers = torch.tensor([[0.5, 0.2], [0.5, 0.5], [0.5, 0.8]])
    logits = 100.0 * F.one_hot(CODES_BL[:, 1:].flatten(), 8).float()
    value = loss(output(logits, centers), BATCH)
    assert (value.count, value.metrics["cell_accuracy"]) == (6, 6)


def test_codes_without_places_are_refused():
    nowhere = attrs.evolve(BLOCK, groups=(CodeGroup(length=4),), grid=None)
    for block in (nowhere, attrs.evolve(BLOCK, per="object")):
        with pytest.raises(
            RecipeError, match="at their places on the image, and those of the stream 'depth' have"
        ):
            CONFIG.build(model_with("depth", tokens=block))
    with pytest.raises(RecipeError, match="the loss cell_codes is about codes, and the stream 'edges' is"):
        CellCodesConfig(stream="edges").build(MODEL)
