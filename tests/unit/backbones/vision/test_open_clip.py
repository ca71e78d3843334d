"""Towers of open_clip: features are open_clip's own, through names and files that a user has."""

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from small_clip import NO_MAP, RESNET, TIMM, TIMM_VIT, VIT, register

from perceptio.backbones.vision.open_clip import OpenCLIPConfig
from perceptio.errors import CheckpointError, RecipeError, UnknownNameError

register()
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def official(model, **settings):
    """A whole CLIP of open_clip with values that leave nothing at its start."""
    torch.manual_seed(0)
    clip = open_clip.create_model(model, pretrained=None, **settings).eval()
    for parameter in clip.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return clip


def expected(clip, image, indices):
    """Features as open_clip gives them, [L, D]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    with torch.no_grad():
        out = clip.forward_intermediates(
            image=((image - mean) / std)[None], image_indices=indices, intermediates_only=True
        )
    return out["image_intermediates"][0][0].flatten(1).T


def loaded(config):
    encoder = config.build().eval()
    assert config.load_weights(encoder)
    return encoder


@pytest.mark.parametrize("model", [VIT, RESNET, TIMM])
@pytest.mark.parametrize("layer", [-1, -2])
def test_features_are_those_of_open_clip(tmp_path, model, layer):
    clip, image = official(model), torch.rand(3, 32, 32)
    save_file(clip.state_dict(), tmp_path / "clip.safetensors")
    config = OpenCLIPConfig(model=model, weights=str(tmp_path / "clip.safetensors"), layer=layer)
    with torch.no_grad():
        features = loaded(config)([image]).features_MD
    assert features.shape == (config.num_features(99, 7), config.spec.feature_dim)
    torch.testing.assert_close(features, expected(clip, image, [layer]), rtol=1e-5, atol=1e-5)


def test_position_embeddings_are_resized_as_open_clip_does(tmp_path):
    clip, image = official(VIT), torch.rand(3, 48, 64)
    torch.save({"state_dict": {f"module.{k}": v for k, v in clip.state_dict().items()}}, tmp_path / "c.pt")
    wide = official(VIT, force_image_size=(48, 64))
    open_clip.load_checkpoint(wide, str(tmp_path / "c.pt"))
    config = OpenCLIPConfig(model=VIT, weights=str(tmp_path / "c.pt"), image_size=(48, 64))
    with torch.no_grad():
        out = loaded(config)([image])
    assert out.counts == (6 * 8,)
    torch.testing.assert_close(out.features_MD, expected(wide, image, [-1]), rtol=1e-5, atol=1e-5)


def test_a_tower_of_timm_resizes_its_own_position_embeddings(tmp_path):
    clip, image = official(TIMM_VIT), torch.rand(3, 32, 64)
    save_file(clip.state_dict(), tmp_path / "clip.safetensors")
    clip.visual.set_input_size((32, 64))
    settings = {"model": TIMM_VIT, "weights": str(tmp_path / "clip.safetensors"), "image_size": (32, 64)}
    with torch.no_grad():
        features = loaded(OpenCLIPConfig(**settings))([image]).features_MD
    assert features.shape[0] == 2 * 4
    torch.testing.assert_close(features, expected(clip, image, [-1]), rtol=1e-5, atol=1e-5)


def test_centers_are_the_centers_of_patches():
    torch.testing.assert_close(
        OpenCLIPConfig(model=VIT).centers(5, 9)[[0, 1, 4]],
        torch.tensor([[0.125, 0.125], [0.125, 0.375], [0.375, 0.125]]),
    )


def test_a_folder_is_searched_for_weights(tmp_path):
    config = OpenCLIPConfig(model=VIT, weights=str(tmp_path))
    with pytest.raises(
        CheckpointError, match="There are no weights of open_clip in .*open_clip_pytorch_model.bin"
    ):
        config.load_weights(config.build())
    save_file(official(VIT).state_dict(), tmp_path / "open_clip_model.safetensors")
    assert loaded(config)


def test_a_tag_brings_its_normalization_and_activation(monkeypatch):
    monkeypatch.setattr(
        open_clip,
        "get_pretrained_cfg",
        lambda model, tag: (
            {"mean": (0.5, 0.5, 0.5), "std": None, "quick_gelu": True} if tag == "ours" else {}
        ),
    )
    encoder = OpenCLIPConfig(model=VIT, tag="ours").build()
    assert encoder.mean.flatten().tolist() == [0.5] * 3
    torch.testing.assert_close(encoder.std.flatten(), torch.tensor(STD))
    assert any(type(part).__name__ == "QuickGELU" for part in encoder.tower.modules())


def test_a_tag_without_network_says_what_to_do(monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: {"hf_hub": "timm/none/"})
    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    config = OpenCLIPConfig(model=VIT, tag="ours")
    with pytest.raises(
        CheckpointError, match="ours of open_clip's small-vit.*no route.*set weights to a file"
    ):
        config.load_weights(config.build())


def test_a_file_without_a_state_dict_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "clip.pt")
    config = OpenCLIPConfig(model=VIT, weights=str(tmp_path / "clip.pt"))
    with pytest.raises(CheckpointError, match="clip.pt holds no state dict"):
        config.load_weights(config.build())


def test_missing_and_misshapen_tensors_are_all_named_and_nothing_moves(tmp_path):
    tensors = official(VIT).state_dict()
    tensors["visual.ln_pre.weight"] = torch.zeros(3)
    del tensors["visual.ln_post.bias"]
    save_file(tensors | {"visual.extra": torch.zeros(1)}, tmp_path / "clip.safetensors")
    config = OpenCLIPConfig(model=VIT, weights=str(tmp_path / "clip.safetensors"))
    encoder = config.build()
    before = encoder.tower.ln_pre.weight.clone()
    with pytest.raises(CheckpointError) as caught:
        config.load_weights(encoder)
    caught.match(r"visual.ln_pre.weight \(here ln_pre.weight\) has shape \(3,\) instead of \(16,\)")
    caught.match("ln_post.bias is missing")
    caught.match(r"visual.extra \(here extra\) is not a part of this model")
    assert torch.equal(encoder.tower.ln_pre.weight, before)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"model": "ViT-B-61"},
            UnknownNameError,
            "open_clip has no model 'ViT-B-61'; did you mean 'ViT-B-16'",
        ),
        ({"tag": "opanai"}, UnknownNameError, "no weights 'opanai' for ViT-B-16; did you mean 'openai'"),
        ({"model": NO_MAP}, RecipeError, f"tower of {NO_MAP} gives one vector for an image"),
        ({"model": VIT, "layer": -9}, RecipeError, f"tower of {VIT} gives no features of layer -9"),
        (
            {"model": VIT, "image_size": (32, 36)},
            RecipeError,
            rf"the width of image_size \(32, 36\) is 36, which is no multiple of 8, the patch of {VIT}",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(settings, error, message):
    with pytest.raises(error, match=message):
        OpenCLIPConfig(**settings).build()


def test_half_precision_weights_give_single_precision_features():
    encoder = OpenCLIPConfig(model=VIT, dtype="bfloat16").build()
    assert next(encoder.tower.parameters()).dtype == torch.bfloat16
    assert encoder([torch.rand(3, 32, 32)]).features_MD.dtype == torch.float32
