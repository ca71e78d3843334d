import pytest
import torch

from perceptio.backbones.vision.conv import ChannelNorm, ConvVisionConfig
from perceptio.errors import RecipeError

CONFIG = ConvVisionConfig(image_size=(16, 24), widths=(4, 6), dilations=(2,))


def test_features_come_one_per_cell_with_their_centers():
    encoder = CONFIG.build()
    out = encoder([torch.rand(3, 16, 24), torch.rand(3, 50, 9)])
    assert out.counts == (24, 24) == (CONFIG.num_features(16, 24), CONFIG.num_features(50, 9))
    assert out.features_MD.shape == (48, 6)
    torch.testing.assert_close(out.centers_M2[:2], torch.tensor([[0.125, 1 / 12], [0.125, 0.25]]))
    torch.testing.assert_close(out.centers_M2, torch.cat([CONFIG.centers(16, 24), CONFIG.centers(50, 9)]))


def test_a_feature_lies_where_its_place_says():
    torch.manual_seed(0)
    encoder = CONFIG.build()
    image = torch.zeros(3, 16, 24)
    image[:, 12:, 20:] = 1.0
    changed_M = (encoder([image]).features_MD - encoder([image * 0]).features_MD).norm(dim=1)
    distance_M = (CONFIG.centers(16, 24) - torch.tensor([0.875, 11 / 12])).norm(dim=1)
    assert distance_M[-1] < 1e-6
    assert changed_M[distance_M < 0.3].mean() > 2 * changed_M[distance_M > 0.6].mean()


def test_each_place_is_normalized_by_its_own_channels():
    x_BDhw = torch.randn(2, 6, 3, 4)
    expected = x_BDhw / x_BDhw.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(ChannelNorm(6)(x_BDhw), expected)


def test_an_image_does_not_depend_on_its_neighbors():
    encoder, images = CONFIG.build(), list(torch.rand(3, 3, 16, 24))
    torch.testing.assert_close(encoder(images).features_MD[:24], encoder(images[:1]).features_MD)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"widths": ()}, "give one or more widths"), ({"image_size": (80, 84)}, "multiple of 8")],
)
def test_sizes_that_cannot_be_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        ConvVisionConfig(**settings)
