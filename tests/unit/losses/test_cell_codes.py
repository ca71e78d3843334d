"""The codes of single cells: which feature answers for which cell."""

import attrs
import pytest
import torch
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import PerceptionOutput, VisionFeatures
from perceptio.losses.cell_codes import CellCodesConfig
from perceptio.losses.next_token import NextTokenConfig
from perceptio.testing.component import MODEL
from perceptio.testing.loss import LossConformance

BATCH = type("Made", (LossConformance,), {"config": NextTokenConfig()})().batch()
CENTERS = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])


def output(logits_MK, centers=CENTERS):
    vision = VisionFeatures(
        features_MD=torch.zeros(len(logits_MK), 3),
        centers_M2=centers.repeat(2, 1),
        counts=(len(centers),) * 2,
    )
    return PerceptionOutput(vision=vision, heads={"cell_codes": logits_MK})


def test_each_cell_is_read_at_its_own_feature():
    loss = CellCodesConfig().build(MODEL)
    logits = 100.0 * F.one_hot(BATCH.image_codes_BL.flatten(), 8).float()
    value = loss(output(logits), BATCH)
    assert value.total.item() == pytest.approx(0.0, abs=1e-6)
    assert value.metrics["cell_accuracy"] == 8
    turned = loss(output(logits, CENTERS.flip(0)), BATCH)  # The same features, lying elsewhere.
    assert turned.metrics["cell_accuracy"] < 8


def test_images_without_depth_are_left_out():
    loss = CellCodesConfig().build(MODEL)
    codes = BATCH.image_codes_BL.clone()
    codes[0] = -1
    batch = attrs.evolve(BATCH, image_codes_BL=codes)
    assert loss.count(batch) == 4
    logits = torch.zeros(8, 8)
    assert loss(output(logits), batch).total.item() == pytest.approx(4 * torch.log(torch.tensor(8.0)).item())


def test_its_cells_are_those_of_the_depth_tokenizer():
    wide = attrs.evolve(MODEL, depth=attrs.evolve(MODEL.depth, grid=(1, 4)))
    centers_L2 = CellCodesConfig().build(wide).grid_centers_L2
    assert centers_L2.tolist() == [[0.5, 0.125], [0.5, 0.375], [0.5, 0.625], [0.5, 0.875]]
    with pytest.raises(RecipeError, match="cell_codes needs a depth tokenizer, and there is none"):
        CellCodesConfig().build(attrs.evolve(MODEL, depth=None))
