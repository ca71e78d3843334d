"""Mask losses by hand, and the points they are compared at."""

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch_with, model_with, output

from perceptio.errors import RecipeError
from perceptio.interfaces import MaskCodes, MaskPrediction
from perceptio.losses.mask_quality import MaskQualityConfig
from perceptio.losses.masks import DiceConfig, MaskBCEConfig, PointSampling
from perceptio.ops.point_sample import sample_points, uncertain_points
from perceptio.testing.component import MODEL

EVERYWHERE = PointSampling(num_points=None)
DICE, BCE = (config(stream="segmentation", sampling=EVERYWHERE) for config in (DiceConfig, MaskBCEConfig))


def value(config, logits, masks):
    """The loss of logits against masks of 0 and 1, which a batch holds as booleans in an order of its own."""
    count = len(masks)
    batch = batch_with(
        "segmentation",
        rows_NX=torch.zeros(count, 1).long(),
        targets=torch.tensor(masks).bool().flip(0),
        target_N=torch.arange(count).flip(0),
    )
    decoded = MaskPrediction(logits_Nhw=torch.tensor(logits))
    return config.build(MODEL)(output("segmentation", decoded=decoded), batch)


def test_dice_by_hand():
    loss = value(DICE, [[[99.0, 99.0], [-99.0, -99.0]]], [[[1.0, 0.0], [1.0, 0.0]]])
    assert loss.total.item() == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))
    assert loss.metrics["mask_iou"].item() == pytest.approx(1 / 3)


def test_an_empty_mask_predicted_empty_costs_nothing_and_counts_as_right():
    loss = value(DICE, [[[-99.0, -99.0]]], [[[0.0, 0.0]]])
    assert loss.total.item() == pytest.approx(0.0, abs=1e-6)
    assert loss.metrics["mask_iou"].item() == 1.0


def test_a_small_object_is_not_found_by_an_empty_mask():
    # It covers a quarter of the left cell, nothing of the right one.
    small = [[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]
    for logits, right in (([-99.0, -99.0], 0), ([99.0, -99.0], 1), ([99.0, 99.0], 0.5)):
        assert value(DICE, [[logits]], small).metrics["mask_iou"].item() == right


def test_bce_by_hand_and_averaged_per_mask():
    loss = value(BCE, [[[0.0, 0.0]], [[99.0, -99.0]]], [[[1.0, 0.0]], [[1.0, 0.0]]])
    assert loss.count == 2
    assert loss.total.item() == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_a_coarse_cell_compares_with_the_share_it_covers():
    loss = value(BCE, [[[0.0]]], [[[1.0, 0.0], [0.0, 0.0]]])
    assert loss.total.item() == pytest.approx(torch.log(torch.tensor(2.0)).item())


@pytest.mark.parametrize("config", [DICE, BCE, MaskQualityConfig(stream="segmentation")])
def test_a_stream_without_mask_logits_is_refused(config):
    spec = attrs.evolve(MODEL.streams["segmentation"].tokenizer, codes=MaskCodes(codebook_size=2, length=4))
    with pytest.raises(
        RecipeError, match="mask logits, and the stream 'segmentation' is written as mask codes, which marker"
    ):
        config.build(model_with("segmentation", tokenizer=spec))
    with pytest.raises(
        RecipeError, match="mask logits, and the stream 'edges' has no segmentation tokenizer"
    ):
        attrs.evolve(config, stream="edges").build(MODEL)
    with pytest.raises(RecipeError, match=f"the loss {config.name} is about the stream 'masks', which"):
        attrs.evolve(config, stream="masks").build(MODEL)


def test_point_settings_out_of_range_are_refused():
    with pytest.raises(RecipeError, match="uncertain_share is 2.0"):
        PointSampling(uncertain_share=2.0)


def test_sampling_at_a_pixel_center_gives_the_pixel():
    image = torch.arange(6.0).reshape(1, 2, 3)
    centers = torch.tensor(
        [[[(column + 0.5) / 3, (row + 0.5) / 2] for row in range(2) for column in range(3)]]
    )
    torch.testing.assert_close(sample_points(image, centers), image.flatten(1), atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 40), share=st.floats(0.0, 1.0), objects=st.integers(0, 3))
def test_points_are_as_many_as_asked_and_inside(count, share, objects):
    points = uncertain_points(torch.randn(objects, 8, 8), count, uncertain_share=share)
    assert points.shape == (objects, count, 2)
    assert ((points >= 0) & (points <= 1)).all()


def test_most_points_lie_where_the_mask_is_undecided():
    torch.manual_seed(0)
    logits = torch.full((1, 16, 16), 9.0)
    logits[:, :, 8:] = -9.0  # Undecided only at the seam.
    points = uncertain_points(logits, 64, oversample=8.0, uncertain_share=0.75)
    assert ((points[0, :, 0] - 0.5).abs() < 0.1).float().mean() > 0.6
