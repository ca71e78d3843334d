"""Masks within their boxes: the published layout, the crop, and the way back onto the picture."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptio.errors import DataError, RecipeError
from perceptio.tokenizers.perception.mask_codes import BoxedMasks, MaskCodesConfig

SMALL = MaskCodesConfig(
    bins=32, codebook_size=6, grid=(2, 2), image_size=(8, 8), widths=(4, 8), latent_dim=3, residual_blocks=1
)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return SMALL.build().eval()


def disc(height, width):
    rows, columns = np.ogrid[:height, :width]
    return (rows - height / 3) ** 2 + (columns - width / 2) ** 2 < (height / 4) ** 2


def test_codes_are_laid_out_as_published():
    """4 of 1024, then 16 of 128; the tensors have the names and shapes of the published decoder."""
    config = MaskCodesConfig()
    written = config.spec.stream.written
    assert written.codebook_sizes == (1024, 128)
    assert [(group.length, group.codebook) for group in written.groups] == [(4, 0), (16, 1)]
    assert config.spec.stream.per == "object" and config.spec.stream.target == "masks"
    with torch.device("meta"):
        decoder = config.build().decoder
    convolutions = {
        name: module.out_channels
        for name, module in decoder.named_modules()
        if hasattr(module, "out_channels")
    }
    assert convolutions == {
        **{"0": 128, "2.net.0": 128, "2.net.2": 128, "2.net.4": 128, "3.net.0": 128, "3.net.2": 128},
        **{"3.net.4": 128, "4": 128, "6": 64, "8": 32, "10": 16, "12": 1},
    }


def test_a_mask_is_cut_out_and_stretched(tokenizer):
    """Two rows of a box of four: the upper half of the crop is the object's."""
    mask_HW = np.zeros((20, 40), dtype=bool)
    mask_HW[4:6, 10:30] = True
    mask_HW[6:8, 10] = True
    targets = tokenizer.targets([mask_HW])
    assert targets.boxes_N4.tolist() == [pytest.approx([0.2, 0.25, 0.4, 0.75])]
    crop_hw = targets.masks_N1hw[0, 0]
    assert crop_hw.shape == (8, 8)
    assert bool((crop_hw[:3] > 0.9).all()) and bool((crop_hw[5:, 2:] < 0.1).all())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20))
def test_a_full_box_comes_back_on_its_picture(top, left, height, width):
    torch.manual_seed(0)
    mask_HW = np.zeros((50, 60), dtype=bool)
    mask_HW[top : top + height, left : left + width] = True
    whole = SMALL.build().targets([mask_HW])
    assert np.array_equal(whole.on_picture((50, 60))[0].numpy(), mask_HW)


def test_a_round_mask_keeps_its_shape_at_64_pixels():
    tokenizer = MaskCodesConfig(residual_blocks=0).build().eval()
    mask_HW = disc(150, 200)
    shown = tokenizer.shown(tokenizer.targets([mask_HW]), [mask_HW.shape])[0]
    assert shown.dtype == bool and shown.shape == mask_HW.shape
    assert (shown & mask_HW).sum() / (shown | mask_HW).sum() > 0.98


def test_codes_are_of_the_box_and_of_the_mask_within(tokenizer):
    targets = tokenizer.targets([disc(40, 60), disc(30, 30)])
    codes_TL = tokenizer.to_codes(targets)
    assert codes_TL.shape == (2, 8)
    assert torch.equal(codes_TL[:, :4], (targets.boxes_N4 * 31).round().long())
    assert torch.equal(codes_TL[:, 4:], tokenizer.codes_of(targets.masks_N1hw))
    made = tokenizer.from_codes(codes_TL)
    assert torch.equal(made.boxes_N4, codes_TL[:, :4] / 31)
    assert torch.equal(made.masks_N1hw, tokenizer.maps_of_codes(codes_TL[:, 4:]))


def test_a_box_whose_edges_are_in_the_wrong_order_shows_nothing(tokenizer):
    boxed = BoxedMasks(
        boxes_N4=torch.tensor([[0.8, 0.1, 0.2, 0.9], [0.5, 0.5, 0.5, 0.5]]), masks_N1hw=torch.ones(2, 1, 8, 8)
    )
    assert not any(mask_HW.any() for mask_HW in tokenizer.shown(boxed, [(10, 10), (20, 30)]))


def test_iou_is_that_on_the_picture(tokenizer):
    """The left half of a box against the whole box."""
    halves = torch.zeros(1, 1, 8, 8)
    halves[..., :4] = 1.0
    box_14 = torch.tensor([[0.25, 0.25, 0.75, 0.75]])
    half = BoxedMasks(boxes_N4=box_14, masks_N1hw=halves)
    whole = BoxedMasks(boxes_N4=box_14, masks_N1hw=torch.ones(1, 1, 8, 8))
    assert tokenizer.compare(half, whole)["iou"].tolist() == [pytest.approx(0.5, abs=0.01)]
    assert tokenizer.compare(whole, whole)["iou"].tolist() == [1.0]


def test_training_reconstructs_the_masks_within_boxes(tokenizer):
    targets = tokenizer.targets([disc(40, 60)])
    assert torch.equal(tokenizer.to_reconstruct(targets), targets.masks_N1hw)
    assert tokenizer.reconstruct(targets.masks_N1hw).values.shape == (1, 1, 8, 8)


def test_a_mask_without_a_pixel_is_refused(tokenizer):
    with pytest.raises(DataError, match="A mask of 4x6 pixels has none that belongs to its object"):
        tokenizer.targets([np.zeros((4, 6), dtype=bool)])


def test_a_coordinate_needs_two_bins():
    with pytest.raises(RecipeError, match="mask_codes: bins is 1; a coordinate needs at least 2"):
        MaskCodesConfig(bins=1)
