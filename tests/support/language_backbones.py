"""Language backbones read from checkpoints, and how texts are packed for them."""

import torch

from perceptio.backbones.language.hf import HFLanguageConfig
from perceptio.interfaces import SequenceLayout, text_positions


def loaded(folder, **settings):
    """The language backbone of a checkpoint's folder, in eval mode."""
    found = HFLanguageConfig.from_pretrained(folder, **settings)
    backbone = found.build().eval()
    assert found.load_weights(backbone)
    return backbone


def packed(*lengths):
    """The layout of texts of these lengths in one row."""
    positions = torch.cat([text_positions(0, length, 1) for length in lengths], 1)
    return SequenceLayout.packed(positions, lengths)
