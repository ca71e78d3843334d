"""Masks of SAM 3 are those of transformers' own forward pass with prompts put among its sparse embeddings."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_sam3 import sam3_parts

from perceptio.errors import CheckpointError, RecipeError
from perceptio.tokenizers.segmentation.hf_sam import (
    FOR_VIDEO,
    HFSAM3SegmentationConfig,
    HFSAMSegmentationConfig,
)

OWNERS = torch.tensor([1, 0, 1])


@pytest.fixture(scope="module")
def official():
    """A tracker without the map that SAM 3 drops, and no tensor at a value that another would have too."""
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    torch.manual_seed(0)
    model = Sam3TrackerModel(Sam3TrackerConfig(**sam3_parts(num_maps=3))).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(0.1 * torch.randn(value.shape))
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(
        model.shared_image_embedding.positional_embedding
    )
    return model


@pytest.fixture(scope="module")
def folder(official, tmp_path_factory):
    """The same weights with the fourth map, as transformers keeps them."""
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    whole = Sam3TrackerModel(Sam3TrackerConfig(**sam3_parts()))
    whole.load_state_dict(whole.state_dict() | official.state_dict())
    folder = tmp_path_factory.mktemp("sam3")
    whole.save_pretrained(folder)
    return folder


@pytest.fixture
def pixels():
    return torch.rand(2, 3, 32, 32)


@pytest.fixture
def prompts():
    return torch.randn(3, 2, 32).requires_grad_()


def loaded(folder, **settings):
    config = HFSAM3SegmentationConfig.from_pretrained(str(folder), **({"image_size": 32} | settings))
    tokenizer = config.build().eval()
    assert config.load_weights(tokenizer)
    return tokenizer


def injected(official, pixels, prompts, multimask):
    """Object by object, each with its whole image, through a hook on the prompt encoder."""
    masks, quality = [], []
    for prompt, owner in zip(prompts, OWNERS, strict=True):
        hook = official.prompt_encoder.register_forward_hook(
            lambda module, given, out, prompt=prompt: (torch.cat([out[0], prompt[None, None]], 2), out[1])
        )
        out = official(2 * pixels[owner][None] - 1, multimask_output=multimask)
        hook.remove()
        masks.append(out.pred_masks[0, 0])
        quality.append(out.iou_scores[0, 0])
    return torch.stack(masks), torch.stack(quality)


@pytest.mark.parametrize("multimask", [True, False])
def test_masks_and_gradients_equal_a_prompt_among_the_sparse_embeddings(
    official, folder, pixels, prompts, multimask
):
    tokenizer = loaded(folder, multimask=multimask, objects_per_call=2)
    encoded = []
    tokenizer.network.model.vision_encoder.register_forward_hook(lambda *_: encoded.append(1))
    prediction = tokenizer.decode(tokenizer.encode_image(pixels), prompts, OWNERS)
    assert encoded == [1]
    truth, quality = injected(official, pixels, prompts, multimask)
    best = quality.argmax(1)
    rows = torch.arange(3)
    pairs = [(prediction.logits_Nhw, truth[rows, best]), (prediction.quality_N, quality[rows, best])]
    if multimask:
        pairs += [(prediction.candidates_NMhw, truth), (prediction.candidate_quality_NM, quality)]
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    gradients = [
        torch.autograd.grad(masks.sum() + iou.sum(), prompts)[0]
        for masks, iou in (
            (prediction.logits_Nhw, prediction.quality_N),
            (truth[rows, best], quality[rows, best]),
        )
    ]
    assert float(gradients[1].abs().max()) > 1e-3
    scale = float(gradients[1].abs().max())
    torch.testing.assert_close(gradients[0] / scale, gradients[1] / scale, rtol=1e-6, atol=1e-6)


def test_the_files_of_the_whole_sam_3_load_without_detector_and_memory(folder, tmp_path, caplog):
    from transformers import Sam3VideoConfig

    whole = Sam3VideoConfig().to_dict()
    for part, small in sam3_parts().items():
        whole["tracker_config"][part] = small
    (tmp_path / "config.json").write_text(json.dumps(whole))
    tensors = {}
    for name, value in load_file(folder / "model.safetensors").items():
        name = name.removeprefix("tracker_model.")
        apart = name.startswith(("detector_model.", "tracker_neck."))
        tensors[name if apart else f"tracker_model.{name}"] = value
    assert sum(name.startswith("detector_model.vision_encoder.backbone.") for name in tensors) > 20
    assert sum(name.startswith("tracker_neck.fpn_layers.") for name in tensors) == 4 * 4 + 6
    memory = {
        f"tracker_model.{name}{'x.weight' if name.endswith('_') else ''}": torch.zeros(1)
        for name in FOR_VIDEO
    }
    detector = {"detector_model.vision_encoder.neck.fpn_layers.0.proj1.bias": torch.zeros(1)}
    save_file(tensors | memory | detector, tmp_path / "model.safetensors")
    with caplog.at_level(logging.INFO):
        found = loaded(tmp_path).state_dict()
    expected = loaded(folder).state_dict()
    assert found.keys() == expected.keys() and len(found) > 100
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert "left out what masks of images do not need: detector_model, " in caplog.text
    assert "memory_x" in caplog.text and "vision_encoder.neck.fpn_layers.3" in caplog.text


def test_it_builds_at_the_released_size_and_without_memory():
    from transformers import Sam3VideoConfig

    parts = Sam3VideoConfig().to_dict()["tracker_config"]
    config = HFSAM3SegmentationConfig(model=json.dumps(parts))
    with torch.device("meta"):
        tokenizer = config.build()
    assert config.spec.image_size == (1008, 1008) and config.spec.mask_size == (288, 288)
    assert all(one.is_meta for one in tokenizer.parameters()) and tokenizer.spec.prompt_dim == 256
    groups = tokenizer.parameter_groups()
    together = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(together) == sorted(map(id, tokenizer.parameters()))


def test_a_size_that_patches_do_not_cover_is_refused():
    with pytest.raises(
        RecipeError, match="hf_sam3: image_size is 34, .* pieces of 4 pixels: give a multiple, such as 32"
    ):
        HFSAM3SegmentationConfig(model=json.dumps(sam3_parts()), image_size=34)


def test_the_sams_are_told_apart(folder):
    with pytest.raises(
        RecipeError,
        match="hf_sam: .* of SAM 2: its image encoder is a sam3_vision_model, not a sam2_vision_model",
    ):
        HFSAMSegmentationConfig.from_pretrained(str(folder))
    with pytest.raises(
        RecipeError, match="hf_sam3: model is no configuration of SAM 3: it lacks vision_config"
    ):
        HFSAM3SegmentationConfig(model='{"vision_config": 3}')


def test_a_configuration_that_transformers_refuses_is_said_so():
    parts = sam3_parts()
    parts["vision_config"]["backbone_config"]["hidden_size"] = "wide"
    with pytest.raises(RecipeError, match="hf_sam3: transformers builds no model of this configuration"):
        HFSAM3SegmentationConfig(model=json.dumps(parts), image_size=32).build()


def test_tensors_that_do_not_fit_are_named(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if name.endswith("no_memory_embedding"))
    del tensors[gone]
    save_file(tensors | {"odd": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(
        CheckpointError, match="odd is not a part of this model; no_memory_embedding is missing"
    ):
        loaded(tmp_path)
