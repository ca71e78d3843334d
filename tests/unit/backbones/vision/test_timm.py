"""Encoders of timm: features are timm's own, through names and files that a user has."""

import math

import attrs
import pytest
import timm
import torch
from safetensors.torch import save_file
from small_timm import CONVNEXT, DINOV2, DINOV3, PLAIN_DINOV2, SIGLIP, SWIN, register

from perceptio.backbones.vision.timm import TimmConfig
from perceptio.errors import CheckpointError, RecipeError, UnknownNameError
from perceptio.ops.images import resize

register()
MODELS = [DINOV2, DINOV3, SIGLIP, SWIN, CONVNEXT]


def official(model, folder, **settings):
    """timm's model with values that leave nothing at its start, and the file that holds them."""
    torch.manual_seed(0)
    network = timm.create_model(model, **settings).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_file(network.state_dict(), folder / "model.safetensors")
    return network


def normalized(network, image):
    mean, std = (torch.tensor(network.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    return ((image - mean) / std)[None]


def as_rows(network, features):
    """What a model or one of its layers gives of one image, as [L, D] without class and register tokens."""
    if features.ndim == 3:
        return features[0, network.num_prefix_tokens :]
    return (
        features[0].flatten(0, 1)
        if isinstance(network, timm.models.SwinTransformer)
        else features[0].flatten(1).T
    )


def final(network, image):
    with torch.no_grad():
        return as_rows(network, network.forward_features(normalized(network, image)))


def loaded(config):
    encoder = config.build().eval()
    assert config.load_weights(encoder)
    return encoder


def features_of(config, *images):
    with torch.no_grad():
        return loaded(config)(images)


@pytest.mark.parametrize("model", MODELS)
def test_the_last_features_are_those_of_timm(tmp_path, model):
    network = official(model, tmp_path)
    config = TimmConfig(model=model, weights=str(tmp_path))
    image = torch.rand(3, *config.spec.image_size)
    out = features_of(config, image)
    assert out.features_MD.shape == (config.num_features(99, 7), config.spec.feature_dim)
    torch.testing.assert_close(out.features_MD, final(network, image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_an_earlier_layer_is_what_timm_has_there(tmp_path, model):
    network = official(model, tmp_path)
    config = TimmConfig(model=model, weights=str(tmp_path / "model.safetensors"), layer=-2, norm=False)
    image, held = torch.rand(3, *config.spec.image_size), []
    layers = next(getattr(network, name) for name in ("blocks", "layers", "stages") if hasattr(network, name))
    layers[-2].register_forward_hook(lambda module, given, out: held.append(out))
    final(network, image)
    found = features_of(config, image).features_MD
    torch.testing.assert_close(found, as_rows(network, held[0]), rtol=1e-5, atol=1e-5)
    if model in (DINOV2, DINOV3, SIGLIP):
        normed = features_of(attrs.evolve(config, norm=True), image).features_MD
        with torch.no_grad():
            torch.testing.assert_close(normed, network.norm(found), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "size", "cells"),
    [
        (DINOV2, (28, 70), (2, 5)),
        (DINOV3, (16, 48), (2, 6)),
        (SIGLIP, (16, 48), (2, 6)),
        (SWIN, (64, 48), (8, 6)),
        (CONVNEXT, (64, 96), (2, 3)),
    ],
)
def test_another_size_is_seen_as_timm_sees_it(tmp_path, model, size, cells):
    network, image = official(model, tmp_path), torch.rand(3, *size)
    if hasattr(network, "set_input_size"):
        network.set_input_size(size)
    config = TimmConfig(model=model, weights=str(tmp_path), image_size=size)
    assert config.whole.cells == cells
    torch.testing.assert_close(
        features_of(config, image).features_MD, final(network, image), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("model", MODELS)
def test_images_keep_their_shapes_in_one_batch(tmp_path, model):
    several = {} if model == CONVNEXT else {"dynamic_img_size": True}
    network = official(model, tmp_path, **several)
    config = TimmConfig(model=model, weights=str(tmp_path), keep_aspect=True)
    images = [torch.rand(3, *size) for size in ((40, 120), (50, 50), (40, 120))]
    out = features_of(config, *images)
    assert out.counts == tuple(config.num_features(*image.shape[1:]) for image in images)
    assert out.counts[0] == out.counts[2] <= out.counts[1] == math.prod(config.whole.cells)
    sizes = [config.whole.fitted(*image.shape[1:]).image_size for image in images]
    assert len(set(sizes)) == 2
    seen = [resize(image, size, "bicubic") for image, size in zip(images, sizes, strict=True)]
    expected = torch.cat([final(network, image) for image in seen])
    torch.testing.assert_close(out.features_MD, expected, rtol=1e-5, atol=1e-5)


def test_an_image_that_keeps_its_shape_has_at_most_as_many_features():
    whole = TimmConfig(model=DINOV2, image_size=(56, 56)).whole
    sizes = {
        (100, 100): (4, 4),
        (400, 100): (8, 2),
        (100, 900): (1, 12),
        (1, 5000): (1, 16),
        (5000, 1): (16, 1),
    }
    for size, cells in sizes.items():
        found = whole.fitted(*size)
        assert found.cells == cells and found.image_size == (14 * cells[0], 14 * cells[1])


def test_a_grid_averages_the_map(tmp_path):
    official(SIGLIP, tmp_path)
    plain = TimmConfig(model=SIGLIP, weights=str(tmp_path))
    image = torch.rand(3, 32, 32)
    fine, coarse = (features_of(config, image) for config in (plain, attrs.evolve(plain, grid=(2, 1))))
    expected = fine.features_MD.unflatten(0, (2, 2, 4)).mean((1, 2))
    torch.testing.assert_close(coarse.features_MD, expected)
    torch.testing.assert_close(coarse.centers_M2, torch.tensor([[0.25, 0.5], [0.75, 0.5]]))


def test_normalization_is_the_tag_s():
    assert TimmConfig(model=SIGLIP).build().std.flatten().tolist() == [0.5] * 3
    torch.testing.assert_close(
        TimmConfig(model=DINOV2).build().mean.flatten(), torch.tensor([0.485, 0.456, 0.406])
    )


def test_layers_are_groups_and_what_follows_is_not_built():
    groups = TimmConfig(model=SIGLIP, layer=-2, norm=False).build().parameter_groups()
    assert list(groups) == ["stem", "layer1", "layer2"]
    encoder = TimmConfig(model=SIGLIP).build()
    groups = encoder.parameter_groups()
    held = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(held) == sorted(map(id, encoder.parameters()))
    assert any(parameter is encoder.trunk.norm.weight for parameter in groups["layer3"])


def test_recomputed_blocks_give_the_same_gradients(tmp_path):
    official(DINOV2, tmp_path)
    image, gradients = torch.rand(3, 56, 56), []
    for again in (False, True):
        encoder = loaded(TimmConfig(model=DINOV2, weights=str(tmp_path), gradient_checkpointing=again))
        assert encoder.trunk.grad_checkpointing is again
        encoder([image]).features_MD.square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    torch.testing.assert_close(*gradients)


def test_missing_and_misshapen_tensors_are_all_named_and_nothing_moves(tmp_path):
    tensors = official(SIGLIP, tmp_path).state_dict()
    tensors["norm.weight"] = torch.zeros(3)
    del tensors["blocks.0.norm1.bias"]
    save_file(tensors | {"extra": torch.zeros(1)}, tmp_path / "model.safetensors")
    config = TimmConfig(model=SIGLIP, weights=str(tmp_path))
    encoder = config.build()
    before = encoder.trunk.pos_embed.clone()
    with pytest.raises(CheckpointError) as caught:
        config.load_weights(encoder)
    caught.match(r"norm.weight has shape \(3,\) instead of \(16,\)")
    caught.match("blocks.0.norm1.bias is missing")
    caught.match("extra is not a part of this model")
    assert torch.equal(encoder.trunk.pos_embed, before)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"model": "small_dinov"},
            UnknownNameError,
            "timm has no model 'small_dinov'; names like it: small_dinov",
        ),
        ({"model": "hf-hub:x/y"}, UnknownNameError, "timm has no model 'hf-hub:x/y'; see timm.list_models()"),
        (
            {"model": "small_swin.on"},
            UnknownNameError,
            "timm has no weights 'on' for small_swin; did you mean 'own'",
        ),
        ({"model": "small_without_map"}, RecipeError, "small_without_map gives no feature map of layer -1"),
        ({"model": SIGLIP, "layer": -9}, RecipeError, f"{SIGLIP} gives no feature map of layer -9"),
        ({"model": SIGLIP, "layer": 2}, RecipeError, "layer is 2, and layers are counted from the end"),
        (
            {"model": SIGLIP, "grid": (3, 2)},
            RecipeError,
            r"grid is \(3, 2\), and the features of .* are \(4, 4\)",
        ),
        ({"model": SIGLIP, "grid": (2, 2), "keep_aspect": True}, RecipeError, "grid .* choose one"),
        (
            {"model": "mixer_s32_224", "keep_aspect": True},
            RecipeError,
            "mixer_s32_224 sees images of one size only",
        ),
        (
            {"model": SIGLIP, "image_size": (32, 36)},
            RecipeError,
            rf"timm: the width of image_size \(32, 36\) is 36, which is no multiple of 8, the patch of {SIGLIP}",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings, error, message):
    with pytest.raises(error, match=message):
        TimmConfig(**settings).build()


def test_half_precision_weights_give_single_precision_features(tmp_path):
    official(DINOV3, tmp_path)
    config = TimmConfig(model=DINOV3, weights=str(tmp_path), dtype="bfloat16", image_size=(16, 48))
    encoder = loaded(config)
    assert next(encoder.trunk.parameters()).dtype == torch.bfloat16
    assert encoder([torch.rand(3, 32, 32)]).features_MD.dtype == torch.float32


@pytest.mark.parametrize("layer", [-1, -2])
@torch.no_grad()
def test_a_dinov2_is_read_in_the_layout_of_transformers_too(tmp_path, layer):
    from transformers import Dinov2Config, Dinov2Model

    settings = Dinov2Config(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=56, layer_norm_eps=1e-6
    )
    theirs = Dinov2Model(settings).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path)
    config = TimmConfig(model=PLAIN_DINOV2, weights=str(tmp_path), layer=layer)
    image = torch.rand(3, 56, 56)
    encoder = loaded(config)
    pixels_13HW = (image - encoder.mean) / encoder.std
    states = theirs(pixels_13HW[None], output_hidden_states=True).hidden_states
    expected = theirs.layernorm(states[layer])[0, 1:]
    torch.testing.assert_close(encoder([image]).features_MD, expected, rtol=1e-5, atol=1e-5)

    deeper = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, layer_norm_eps=1e-6
    )
    Dinov2Model(deeper).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"encoder.layer.3.norm1.bias is not a part of this model"):
        loaded(config)
