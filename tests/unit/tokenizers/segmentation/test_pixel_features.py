"""What the conformance suite cannot know of this tokenizer: masks follow from prompt times feature."""

import attrs
import pytest
import torch

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.backbones.vision.internvit import InternViTConfig
from perceptio.errors import RecipeError
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig

CONFIG = PixelFeaturesConfig(image_size=(16, 24), widths=(8, 8), feature_dim=8)


def test_the_last_number_of_a_prompt_raises_the_whole_mask():
    tokenizer = CONFIG.build().eval()
    features = tokenizer.encode_image(torch.rand(1, 3, 16, 24))
    prompt = torch.zeros(2, 1, 9)
    prompt[1, 0, -1] = 5.0
    low, high = tokenizer.decode(features, prompt, torch.tensor([0, 0])).logits_Nhw
    torch.testing.assert_close(high - low, torch.full((8, 12), 5.0))
    assert (low < 0).all()  # Few pixels belong to an object: an empty mask is where training starts.


def test_it_learns_to_tell_colors_apart():
    torch.manual_seed(0)
    tokenizer = CONFIG.build()
    prompts = torch.nn.Parameter(0.1 * torch.randn(2, 1, 9))
    pixels = torch.zeros(1, 3, 16, 24)
    pixels[:, 0, 2:8, 2:10], pixels[:, 2, 8:14, 12:22] = 1.0, 1.0
    masks = torch.stack([pixels[0, 0], pixels[0, 2]])[:, ::2, ::2]
    optimizer = torch.optim.AdamW([*tokenizer.parameters(), prompts], lr=1e-2)
    for _ in range(80):
        features = tokenizer.encode_image(pixels)
        logits = tokenizer.decode(features, prompts, torch.tensor([0, 0])).logits_Nhw
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = logits > 0
    assert ((found & masks.bool()).sum((1, 2)) / (found | masks.bool()).sum((1, 2)) > 0.9).all()


@pytest.mark.parametrize("settings", [{"widths": ()}, {"feature_dim": 0}, {"image_size": (15, 24)}])
def test_sizes_that_cannot_be_are_refused(settings):
    with pytest.raises(RecipeError, match="pixel_features"):
        PixelFeaturesConfig(**settings)


class TestBackbone:
    BACKBONE = ConvVisionConfig(image_size=(16, 24), widths=(8, 8))

    def test_its_features_lie_where_they_are_on_the_image(self):
        config = attrs.evolve(CONFIG, backbone=self.BACKBONE)
        tokenizer, seen = config.build().eval(), []
        tokenizer.encoder.across_given.register_forward_hook(lambda module, given, out: seen.append(given[0]))
        pixels = torch.rand(2, 3, 16, 24)
        assert tokenizer.encode_image(pixels).shape == (2, 8, 8, 12)
        features = tokenizer.backbone(list(pixels))
        (given_BDhw,) = seen
        for m, (row, column) in enumerate(self.BACKBONE.centers(16, 24)):
            h, w = int(row * given_BDhw.shape[2]), int(column * given_BDhw.shape[3])
            torch.testing.assert_close(given_BDhw[0, :, h, w], features.features_MD[m])
        assert [*tokenizer.parameter_groups()] == ["image_encoder", "mask_decoder", "backbone"]

    def test_its_features_change_those_of_pixels(self):
        tokenizer = attrs.evolve(CONFIG, backbone=self.BACKBONE).build().eval()
        pixels = torch.rand(1, 3, 16, 24)
        before = tokenizer.encode_image(pixels)
        for parameter in tokenizer.backbone.parameters():
            parameter.data += 0.1
        assert not torch.equal(tokenizer.encode_image(pixels), before)

    def test_tiles_are_refused(self):
        tiles = InternViTConfig(tile_size=16, patch_size=4, hidden_dim=8, num_layers=1, num_heads=1)
        config = attrs.evolve(CONFIG, image_size=(16, 64), backbone=tiles)
        with pytest.raises(
            RecipeError, match="features of vision:internvit are not rows and columns of one grid"
        ):
            config.build()
