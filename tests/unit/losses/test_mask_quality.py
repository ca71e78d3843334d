"""The estimate of a mask's IoU against the IoU it has, by hand."""

import attrs
import pytest
import torch
from made_up import batch_with, output

from perceptio.errors import RecipeError
from perceptio.interfaces import MaskPrediction
from perceptio.losses.mask_quality import MaskQualityConfig
from perceptio.testing.component import MODEL

BATCH = batch_with(
    "segmentation",
    rows_NX=torch.zeros(1, 1).long(),
    targets=torch.tensor([[[True, True], [False, False]]]),
    target_N=torch.zeros(1).long(),
)
LOSS = MaskQualityConfig(stream="segmentation").build(MODEL)
# Their IoU with the upper half: 1, 1/3, 0.
CANDIDATES = torch.tensor(
    [[[[9.0, 9.0], [-9.0, -9.0]], [[9.0, -9.0], [9.0, -9.0]], [[-9.0, -9.0], [9.0, 9.0]]]]
)


def prediction(quality, chosen=0):
    return MaskPrediction(
        logits_Nhw=CANDIDATES[:, chosen],
        quality_N=quality[:, chosen],
        candidates_NMhw=CANDIDATES,
        candidate_quality_NM=quality,
    )


def test_every_candidate_learns_its_own_iou():
    quality = torch.tensor([[0.75, 0.5, 0.25]], requires_grad=True)
    value = LOSS(output("segmentation", decoded=prediction(quality, chosen=1)), BATCH)
    assert value.count == 1
    assert value.total.item() == pytest.approx((0.25 + (0.5 - 1 / 3) + 0.25) / 3)
    assert value.metrics["mask_iou"].item() == pytest.approx(1 / 3)
    value.total.backward()
    torch.testing.assert_close(quality.grad, torch.tensor([[-1.0, 1.0, 1.0]]) / 3)


def test_without_candidates_the_one_mask_learns():
    masks = MaskPrediction(logits_Nhw=CANDIDATES[:, 1], quality_N=torch.tensor([1 / 3]))
    assert LOSS(output("segmentation", decoded=masks), BATCH).total.item() == pytest.approx(0.0, abs=1e-6)


def test_no_gradient_reaches_the_masks():
    logits = CANDIDATES.clone().requires_grad_()
    quality = torch.full((1, 3), 0.5, requires_grad=True)
    masks = attrs.evolve(prediction(quality), candidates_NMhw=logits, logits_Nhw=logits[:, 0])
    LOSS(output("segmentation", decoded=masks), BATCH).total.backward()
    assert logits.grad is None and quality.grad.all()


def test_nothing_predicted_of_nothing_is_right():
    none = attrs.evolve(BATCH.streams["segmentation"], targets=torch.zeros(1, 2, 2, dtype=torch.bool))
    nothing = attrs.evolve(BATCH, streams={"segmentation": none})
    masks = MaskPrediction(logits_Nhw=torch.full((1, 2, 2), -1.0), quality_N=torch.tensor([1.0]))
    assert LOSS(output("segmentation", decoded=masks), nothing).total.item() == 0.0


def test_a_tokenizer_without_an_estimate_is_refused():
    masks = MaskPrediction(logits_Nhw=CANDIDATES[:, 0])
    with pytest.raises(RecipeError, match="that of the stream 'segmentation' gives none; leave the loss out"):
        LOSS(output("segmentation", decoded=masks), BATCH)


def test_an_empty_mask_of_a_small_object_learns_that_it_is_none():
    # A pixel of the 16 of the left upper cell.
    small = torch.zeros(1, 8, 8, dtype=torch.bool)
    small[0, 0, 0] = True
    batch = attrs.evolve(
        BATCH, streams={"segmentation": attrs.evolve(BATCH.streams["segmentation"], targets=small)}
    )
    for logits, true_iou in ((torch.full((1, 2, 2), -9.0), 0.0), (CANDIDATES[:, 0], 0.5)):
        masks = MaskPrediction(logits_Nhw=logits, quality_N=torch.tensor([true_iou]))
        assert LOSS(output("segmentation", decoded=masks), batch).total.item() == 0
