"""Mask decoders are held to their specs where they make masks, whoever wrote them."""

import pytest
import torch

from perceptio.errors import InterfaceError
from perceptio.interfaces import MaskPrediction, SegmentationSpec, SegmentationTokenizer


class LyingMasks(SegmentationTokenizer):
    spec = SegmentationSpec(prompt_dim=2, image_size=(8, 8), mask_size=(4, 4))

    def __init__(self, made):
        super().__init__()
        self.made = made

    def encode_image(self, pixels_B3HW):
        return None

    def decode(self, features, prompts_NSP, image_index_N):
        return self.made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (torch.zeros(2, 4, 4), r"made float32 \[2, 4, 4\] and no MaskPrediction"),
        (MaskPrediction(logits_Nhw=torch.zeros(1, 4, 4)), r"\[1, 4, 4\] and not of \[2, 4, 4\]"),
        (MaskPrediction(logits_Nhw=torch.zeros(2, 4, 3)), r"\[2, 4, 3\] and not of \[2, 4, 4\]"),
        (MaskPrediction(logits_Nhw=None), r"made masks that are a NoneType and not of"),
    ],
)
def test_masks_that_break_the_promise_are_found_where_they_are_made(made, message):
    with pytest.raises(InterfaceError, match=f"^LyingMasks.decode .*{message}"):
        LyingMasks(made).decode(None, torch.zeros(2, 1, 2), torch.zeros(2).long())
