"""Masks of one image matched with true ones: which pairs are made, and what is learned of each."""

import math

import attrs
import pytest
import torch
from made_up import batch_with, output
from torch.nn import functional as F

from perceptio.errors import InterfaceError, RecipeError
from perceptio.losses.matched_masks import MatchedMasksConfig
from perceptio.testing.component import MODEL

CONFIG = MatchedMasksConfig(stream="objects")
LEFT, RIGHT = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
NONE, ABSENT = torch.zeros(1, 2), torch.full((1, 2), torch.nan)


def value(logits, masks, config=CONFIG, known=True):
    """The loss of one image, beside which another has nothing known."""
    logits, masks = (torch.stack([*values]) for values in (logits, masks))
    batch = batch_with(
        "objects",
        targets=torch.stack([masks, torch.full_like(masks, torch.nan)]),
        known=(known, False),
    )
    return config.build(MODEL)(output("objects", decoded=torch.stack([logits, logits])), batch)


def sure(mask):
    return 100.0 * (2 * mask - 1)


def test_the_right_masks_in_any_order_cost_nothing():
    for order in ((LEFT, RIGHT, NONE), (NONE, RIGHT, LEFT)):
        loss = value([sure(mask) for mask in order], [RIGHT, ABSENT, LEFT])
        assert (loss.count, loss.total.item()) == (1, pytest.approx(0.0, abs=1e-6))
        assert loss.metrics["mask_iou"] == 1


def test_pairs_and_rest_by_hand():
    loss = value([sure(LEFT), torch.zeros(1, 2), torch.zeros(1, 2)], [RIGHT, LEFT])
    # The first is the left one; one of the undecided ones is the right one, the other nothing.
    undecided_dice = 1 - (2 * 0.5 + 1) / (1 + 1 + 1)
    pairs = (0 + 0 + math.log(2) + undecided_dice) / 2
    assert loss.total.item() == pytest.approx(pairs + 0.1 * math.log(2))
    assert loss.metrics["mask_iou"].item() == pytest.approx(0.5)
    heavy = value([sure(LEFT), torch.zeros(1, 2)], [LEFT], attrs.evolve(CONFIG, unmatched_weight=2.0))
    assert heavy.total.item() == pytest.approx(2.0 * math.log(2))


def test_an_image_without_masks_teaches_that_there_are_none():
    loss = value([sure(NONE), torch.zeros(1, 2)], [ABSENT, ABSENT])
    assert loss.total.item() == pytest.approx(0.1 * math.log(2) / 2)
    assert (loss.count, loss.metrics["mask_iou"]) == (1, 1)
    assert CONFIG.build(MODEL).count(batch_with("objects", known=(False, False))) == 0


def test_finer_masks_are_compared_by_the_share_of_a_cell_that_they_cover():
    fine = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    loss = value([torch.tensor([[100.0, 0.0]])], [fine], CONFIG)
    entropy = F.binary_cross_entropy_with_logits(torch.tensor([100.0, 0.0]), torch.tensor([1.0, 0.5]))
    dice = 1 - (2 * (1 + 0.25) + 1) / (1.5 + 1.5 + 1)
    assert loss.total.item() == pytest.approx(entropy.item() + dice)


def test_gradients_reach_every_mask_of_known_images_alone():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    masks = (torch.rand(2, 2, 4, 4) > 0.5).float()
    batch = batch_with("objects", targets=masks, known=(True, False))
    CONFIG.build(MODEL)(output("objects", decoded=logits), batch).total.backward()
    assert logits.grad[0].flatten(1).abs().amin(1).all() and not logits.grad[1].any()


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(
        InterfaceError, match="the stream 'objects' has 1 and 2; let its tokenizer keep fewer"
    ):
        value([LEFT], [LEFT, RIGHT])
    with pytest.raises(
        InterfaceError, match="matches up to 12 masks with at most as many true ones, and the str"
    ):
        value([LEFT] * 13, [LEFT])
    with pytest.raises(InterfaceError, match="the stream 'objects' has 3 and 0; let its tokenizer"):
        no_masks = batch_with("objects", targets=torch.zeros(2, 0, 4, 4))
        CONFIG.build(MODEL)(output("objects", decoded=torch.zeros(2, 3, 4, 4)), no_masks)
    with pytest.raises(InterfaceError, match=r"the stream 'objects' has a str and float32 \[2, 3, 16, 16\]"):
        CONFIG.build(MODEL)(output("objects", decoded="masks"), batch_with("objects"))


def test_streams_of_another_kind_are_refused():
    with pytest.raises(RecipeError, match="'segmentation' is written once per object; use mask_bce and dice"):
        attrs.evolve(CONFIG, stream="segmentation").build(MODEL)
    with pytest.raises(
        RecipeError, match="the loss matched_masks is about what special tokens decode to, and"
    ):
        attrs.evolve(CONFIG, stream="depth").build(MODEL)
    with pytest.raises(
        RecipeError, match=r"objects_matched_masks: unmatched_weight is -0.1; it must not be below"
    ):
        MatchedMasksConfig(stream="objects", unmatched_weight=-0.1)


def test_a_small_mask_is_not_found_by_an_empty_one():
    small = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert value([sure(NONE)], [small]).metrics["mask_iou"] == 0
    assert value([sure(LEFT)], [small]).metrics["mask_iou"] == 1
