"""The same weights give the same masks by either package; the names of one are mapped to the other's here."""

import json
import logging
import re

import attrs
import pytest
import torch
from safetensors.torch import save_file

from perceptio.errors import CheckpointError, RecipeError
from perceptio.tokenizers.segmentation.hf_sam import FOR_VIDEO, HFSAMSegmentationConfig
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig

OWNERS = torch.tensor([1, 0, 1])
NAMES = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"(_mlps\.\d|_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(_mlps\.\d|_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(_mlps\.\d|_head)\.layers\.2\.", r"\1.proj_out."),
)


def theirs(tensors):
    """Official tensors under the names of transformers."""
    named = {}
    for name, value in tensors.items():
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        named[name] = value
    named["prompt_encoder.point_embed.weight"] = torch.cat(
        [named.pop(f"prompt_encoder.point_embeddings.{i}.weight") for i in range(4)]
    )
    named["shared_image_embedding.positional_embedding"] = named[
        "prompt_encoder.shared_embedding.positional_embedding"
    ]
    return named


@pytest.fixture(scope="module")
def ours(checkpoint):
    """The tokenizer of the `sam2` package."""
    config = SAM2SegmentationConfig(size="tiny", image_size=64, weights=str(checkpoint))
    tokenizer = config.build().eval()
    config.load_weights(tokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def folder(ours, tmp_path_factory):
    """The same weights, as transformers keeps them."""
    from transformers import Sam2Config, Sam2Model

    model = Sam2Model(Sam2Config())
    model.load_state_dict({name: one.clone() for name, one in theirs(ours.network.state_dict()).items()})
    folder = tmp_path_factory.mktemp("hf")
    model.save_pretrained(folder)
    return folder


def loaded(folder, **settings):
    config = HFSAMSegmentationConfig.from_pretrained(str(folder), image_size=64, **settings)
    tokenizer = config.build().eval()
    assert config.load_weights(tokenizer)
    return tokenizer


def relative(found, truth):
    return float((found - truth).detach().abs().max() / truth.detach().abs().max())


def test_masks_and_gradients_equal_those_of_the_other_package(ours, folder, pixels, prompts):
    tokenizer = loaded(folder)
    results = []
    for one in (ours, tokenizer):
        prediction = one.decode(one.encode_image(pixels), prompts, OWNERS)
        decoder = dict(one.network.named_parameters())
        convolution = next(p for name, p in decoder.items() if name.endswith("mask_decoder.conv_s0.weight"))
        loss = prediction.logits_Nhw.sum() + prediction.quality_N.sum()
        results.append((prediction, torch.autograd.grad(loss, [prompts, convolution])))
    (truth, truth_gradients), (found, gradients) = results
    assert relative(found.candidates_NMhw, truth.candidates_NMhw) < 1e-5
    assert relative(found.candidate_quality_NM, truth.candidate_quality_NM) < 1e-5
    assert relative(found.logits_Nhw, truth.logits_Nhw) < 1e-5
    assert all(relative(*pair) < 1e-5 for pair in zip(gradients, truth_gradients, strict=True))


def test_the_single_mask_is_the_other_package_s_too(ours, folder, pixels, prompts):
    tokenizer = loaded(folder, multimask=False)
    ours.multimask = False
    try:
        truth = ours.decode(ours.encode_image(pixels), prompts, OWNERS)
    finally:
        ours.multimask = True
    found = tokenizer.decode(tokenizer.encode_image(pixels), prompts, OWNERS)
    assert relative(found.logits_Nhw, truth.logits_Nhw) < 1e-5
    assert relative(found.quality_N, truth.quality_N) < 1e-5


def test_files_of_the_video_model_load_without_its_memory(ours, folder, tmp_path, caplog):
    tensors = {name: one.clone() for name, one in theirs(ours.network.state_dict()).items()}
    del tensors["prompt_encoder.shared_embedding.positional_embedding"]
    memory = {f"{name}{'x.weight' if name.endswith('_') else ''}": torch.zeros(1) for name in FOR_VIDEO}
    save_file(tensors | memory, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with caplog.at_level(logging.INFO):
        found = loaded(tmp_path).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in loaded(folder).state_dict().items())
    assert len(found) > 250 and all(name.split(".")[0] in caplog.text for name in memory)


def test_tensors_that_do_not_fit_are_named(ours, folder, tmp_path):
    tensors = {name: one.clone() for name, one in theirs(ours.network.state_dict()).items()}
    del tensors["no_memory_embedding"]
    save_file(tensors | {"odd": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(
        CheckpointError, match="odd is not a part of this model; no_memory_embedding is missing"
    ):
        loaded(tmp_path)


def test_it_builds_without_memory():
    from transformers import Sam2Config

    config = HFSAMSegmentationConfig(model=json.dumps(Sam2Config().to_dict()))
    with torch.device("meta"):
        tokenizer = config.build()
    assert all(one.is_meta for one in tokenizer.parameters()) and tokenizer.spec.prompt_dim == 256
    groups = tokenizer.parameter_groups()
    together = [id(p) for group in groups.values() for p in group]
    assert sorted(together) == sorted(map(id, tokenizer.parameters()))
    with pytest.raises(RecipeError, match="hf_sam: image_size is 40, .* such as 32"):
        attrs.evolve(config, image_size=40)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tiny", "model is no configuration in JSON"),
        ('{"vision_config": {}}', "it lacks prompt_encoder_config, mask"),
    ],
)
def test_a_configuration_of_something_else_is_refused(model, message):
    with pytest.raises(RecipeError, match=message):
        HFSAMSegmentationConfig(model=model)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="config.json is not the configuration of a SAM 2"):
        HFSAMSegmentationConfig.from_pretrained(str(tmp_path))
