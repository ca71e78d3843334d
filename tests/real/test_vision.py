"""DINOv2-small through `vision:timm` is transformers' Dinov2Model on the same weights."""

import pytest
import torch

from perceptio.backbones.vision.timm import TimmConfig
from perceptio.settings import load_recipe

MODEL = load_recipe("perceptio_135m").vision.model


@pytest.fixture(scope="module")
def official(dinov2):
    from transformers import Dinov2Model

    model, told = Dinov2Model.from_pretrained(dinov2, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    return model.eval()


def both(dinov2, official, size):
    """Features [M, D] of an image of this size by us and by transformers."""
    config = TimmConfig(model=MODEL, weights=str(dinov2), image_size=(size, size))
    encoder = config.build().eval()
    assert config.load_weights(encoder)
    rows = torch.linspace(0, 6, size)
    image = torch.stack([0.5 + 0.5 * torch.sin(k * rows[:, None] + rows) for k in (1, 2, 3)])
    mine = encoder([image])
    assert mine.counts == ((size // 14) ** 2,)
    pixels = (image - encoder.mean) / encoder.std
    return mine.features_MD, official(pixels[None]).last_hidden_state[0, 1:]


@torch.no_grad()
def test_features_are_the_official_ones_at_the_size_it_was_trained_at(dinov2, official):
    mine, theirs = both(dinov2, official, 518)
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_at_another_size_only_the_smoothing_of_positions_differs(dinov2, official):
    mine, theirs = both(dinov2, official, 224)
    assert float(torch.cosine_similarity(mine, theirs).min()) > 0.9
