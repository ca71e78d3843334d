"""CoVT's streams, each beside the same computation written out as the paper describes it."""

import math

import attrs
import numpy as np
import pytest
import torch
from teachers import official_teacher
from torch.nn import functional as F

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.errors import CheckpointError, DataError, RecipeError
from perceptio.interfaces import DepthMap
from perceptio.tokenizers.perception.covt_depth import CoVTDepthConfig
from perceptio.tokenizers.perception.covt_edges import CoVTEdgesConfig, EdgeFilters
from perceptio.tokenizers.perception.covt_masks import CoVTMasksConfig
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig

DEPTH = CoVTDepthConfig(
    layers=(0, 2, 3),
    hidden_dim=16,
    num_layers=4,
    num_heads=2,
    trained_size=28,
    image_size=(42, 56),
    map_size=(24, 32),
)
EDGES = CoVTEdgesConfig(image_size=(20, 24), map_size=(20, 24))
MASKS = CoVTMasksConfig(segmentation=PixelFeaturesConfig(image_size=(16, 24)), num_masks=3)
IMAGE_INDEX = torch.tensor([1, 0, 1])


def test_depth_is_the_layers_of_depth_anything_times_a_vector_each(tmp_path):
    """Against the official model's own layers, each product stretched and then averaged."""
    official = official_teacher(tmp_path)
    config = attrs.evolve(DEPTH, weights=str(tmp_path))
    tokenizer = config.build()
    assert config.load_weights(tokenizer)
    pixels_B3HW, rows_N3P = torch.rand(2, 3, 42, 56), torch.randn(3, 3, 16)

    layers = []
    with torch.no_grad():
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
        hidden = official.backbone.embeddings((pixels_B3HW - mean) / std)
        for layer in official.backbone.encoder.layer:
            hidden = layer(hidden)
            layers.append(official.backbone.layernorm(hidden)[:, 1:])
    expected = torch.zeros(3, 1, 24, 32)
    for n, image in enumerate(IMAGE_INDEX):
        for i, layer in enumerate(config.layers):
            product = torch.bmm(rows_N3P[n, i].view(1, 1, 16), layers[layer][image][None].mT).view(1, 1, 3, 4)
            expected[n] += F.interpolate(product, (24, 32), mode="bilinear", align_corners=False)[0] / 3

    decoded = tokenizer.from_rows(rows_N3P, tokenizer.encode_image(pixels_B3HW), IMAGE_INDEX)
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=1e-5)
    assert decoded.abs().mean() > 0.1


def test_depth_is_learned_from_relative_depth():
    tokenizer = DEPTH.build()
    ramp_HW = np.linspace(2.0, 6.0, 32, dtype=np.float32)[None].repeat(24, 0)
    targets = tokenizer.targets([DepthMap(values_HW=ramp_HW, unit="disparity"), None])
    assert targets.shape == (2, 1, 24, 32) and targets[1].isnan().all()
    torch.testing.assert_close(targets[0, 0, 0], torch.linspace(0, 1, 32))
    (shown,) = tokenizer.shown(targets[:1] * 3 - 1, [(100, 100)])
    assert shown.unit == "disparity" and shown.values_HW.shape == (24, 32)
    assert shown.values_HW.min() == 0 and shown.values_HW.max() == 1


def test_a_depth_expert_of_another_size_is_refused(tmp_path):
    official_teacher(tmp_path)
    config = attrs.evolve(DEPTH, weights=str(tmp_path), hidden_dim=32)
    with pytest.raises(
        CheckpointError, match=r"cls_token has shape \(1, 1, 16\) instead of \(1, 1, 32\)|.*32"
    ):
        config.load_weights(config.build())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (2, 1)}, r"layers are \(2, 1\); name each once, in order, from 0 to 3"),
        ({"layers": (1, 4)}, r"layers are \(1, 4\); name each once, in order, from 0 to 3"),
        ({"layers": ()}, "at least one layer"),
        ({"image_size": (40, 56)}, r"image_size \(40, 56\) .* must be multiples of the patch, 14"),
    ],
)
def test_depth_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        attrs.evolve(DEPTH, **changes)


def test_edges_are_a_convolution_with_each_vector():
    """As CoVT does it: a 1x1 convolution by each vector, their mean, a sigmoid."""
    tokenizer = EDGES.build()
    pixels_B3HW, rows_N4P = torch.rand(2, 3, 20, 24), torch.randn(3, 4, EdgeFilters.WIDTH)
    features_BPhw = tokenizer.encode_image(pixels_B3HW)
    expected = torch.cat(
        [
            torch.cat(
                [F.conv2d(features_BPhw[image][None], row_P[None, :, None, None]) for row_P in row_4P], 1
            )
            .mean(1, keepdim=True)
            .sigmoid()
            for row_4P, image in zip(rows_N4P, IMAGE_INDEX, strict=True)
        ]
    )
    decoded = tokenizer.from_rows(rows_N4P, features_BPhw, IMAGE_INDEX)
    torch.testing.assert_close(decoded, expected, atol=1e-5, rtol=1e-5)
    assert [one.shape for one in tokenizer.shown(decoded, [(30, 10)] * 3)] == [(30, 10, 1)] * 3


def test_a_step_in_brightness_is_an_edge_of_its_height():
    pixels_B3HW = torch.zeros(1, 3, 40, 60)
    pixels_B3HW[..., 30:] = 0.5
    features_PHW = EdgeFilters()(pixels_B3HW)[0]
    assert features_PHW.shape == (EdgeFilters.WIDTH, 40, 60)
    for scale in range(3):
        across, diagonal, down, other, length = features_PHW[5 * scale : 5 * scale + 5]
        assert across[20].max() > 0.4 and across[20, :10].max() < 1e-5
        torch.testing.assert_close(across, length)
        torch.testing.assert_close(diagonal, across * math.sqrt(0.5))
        torch.testing.assert_close(diagonal, other)
        assert down.max() < 1e-5
    assert (features_PHW[-1] == 1).all()


def test_any_vision_encoder_is_an_edge_expert():
    config = CoVTEdgesConfig(expert=ConvVisionConfig(image_size=(16, 24), widths=(4, 8)), map_size=(8, 8))
    tokenizer = config.build()
    encoder, pixels_B3HW = tokenizer.expert, torch.rand(2, 3, 16, 24)
    features_BPhw = tokenizer.encode_image(pixels_B3HW)
    assert features_BPhw.shape == (2, 8, 4, 6) and config.spec.stream.written.width == 8
    alone_MD = encoder([pixels_B3HW[1]]).features_MD
    torch.testing.assert_close(features_BPhw[1].flatten(1).T, alone_MD)
    assert tokenizer.from_rows(torch.randn(1, 4, 8), features_BPhw, IMAGE_INDEX[:1]).shape == (1, 1, 8, 8)


def test_an_expert_without_a_grid_is_refused(monkeypatch):
    expert = ConvVisionConfig(image_size=(16, 24), widths=(4, 8))
    made = expert.centers(16, 24)
    monkeypatch.setattr(ConvVisionConfig, "centers", lambda self, height, width: torch.cat([made, made[:1]]))
    with pytest.raises(RecipeError, match="not those of one grid, row by row"):
        CoVTEdgesConfig(expert=expert).build()


def test_edges_are_learned_from_a_map_of_the_folder():
    tokenizer = EDGES.build()
    map_HWC = np.full((20, 24, 1), 0.25, np.float32)
    map_HWC[0, 0] = np.nan
    targets = tokenizer.targets([None, map_HWC])
    assert targets.shape == (2, 1, 20, 24) and targets[0].isnan().all()
    assert targets[1].isnan().sum() == 1 and targets[1, 0, 1:].eq(0.25).all()
    assert tokenizer.compare(targets[1:] + 0.5, targets[1:])["absolute_error"].tolist() == [0.5]
    with pytest.raises(DataError, match=r"one channel from 0 to 1, and a map 'edges' is float32 \[2, 2, 3\]"):
        tokenizer.targets([np.zeros((2, 2, 3), np.float32)])
    with pytest.raises(DataError, match=r"float32 \[2, 2, 1\], from 2 to 2"):
        tokenizer.targets([np.full((2, 2, 1), 2, np.float32)])


def test_each_mask_is_that_of_its_own_prompt():
    tokenizer = MASKS.build()
    pixels_B3HW, rows_N3P = torch.rand(2, 3, 16, 24), torch.randn(3, 3, MASKS.segmentation.spec.prompt_dim)
    features = tokenizer.encode_image(pixels_B3HW)
    decoded = tokenizer.from_rows(rows_N3P, features, IMAGE_INDEX)
    assert decoded.shape == (3, 3, 8, 12)
    for n, image in enumerate(IMAGE_INDEX):
        own = tokenizer.segmentation.encode_image(pixels_B3HW[image][None])
        for i in range(3):
            alone = tokenizer.segmentation.decode(own, rows_N3P[n, i][None, None], torch.tensor([0]))
            torch.testing.assert_close(decoded[n, i], alone.logits_Nhw[0], atol=1e-5, rtol=1e-5)
    shown = tokenizer.shown(decoded, [(16, 24), (5, 7), (16, 24)])
    assert [one.shape for one in shown] == [(3, 16, 24), (3, 5, 7), (3, 16, 24)]


def test_the_largest_objects_are_learned():
    tokenizer = attrs.evolve(MASKS, num_masks=2).build()
    masks_3HW = np.zeros((3, 16, 24), bool)
    masks_3HW[0, :2, :2] = True
    masks_3HW[1, :, :12] = True
    masks_3HW[2, 8:, 12:] = True
    targets = tokenizer.targets([None, masks_3HW, masks_3HW[:1]])
    assert targets.shape == (3, 2, 8, 12)
    assert targets[1].sum((1, 2)).tolist() == [48, 24]
    assert targets[2, 0].sum() == 1 and targets[2, 1].isnan().all() and targets[0].isnan().all()
    decoded = torch.stack([targets[1, 1], targets[1, 0] * 0]).sub(0.5)[None]
    (iou,) = tokenizer.compare(decoded, targets[1:2])["best_iou"].tolist()
    assert iou == 0.5
    assert tokenizer.compare(decoded, targets[:1])["best_iou"].isnan().all()


@pytest.mark.parametrize("config", [DEPTH, EDGES, MASKS], ids=lambda config: config.name)
def test_gradients_reach_the_vectors_and_nothing_of_the_expert(config):
    tokenizer, written = config.build().train(), config.spec.stream.written
    assert config.spec.stream.frozen and not config.spec.stream.trains and not tokenizer.training
    features = tokenizer.encode_image(torch.rand(1, 3, *config.spec.stream.image_size))
    rows = torch.randn(1, written.num_rows, written.width).requires_grad_()
    tokenizer.from_rows(rows, features, torch.tensor([0])).square().sum().backward()
    assert (rows.grad.flatten(1).abs().amax(1) > 0).all()
    assert all(parameter.grad is None for parameter in tokenizer.parameters())
    none = tokenizer.from_rows(rows[:0].detach(), features, torch.tensor([], dtype=torch.long))
    assert len(none) == 0 and tokenizer.shown(none, []) == []
