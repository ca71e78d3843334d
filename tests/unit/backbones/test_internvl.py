"""Three parts of one checkpoint compute what transformers' whole InternVL computes, in both layouts."""

import functools
import json

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from tiny_hf import PADDED_VOCAB, TEXT_VOCAB, tokenizer_folder, write_tokenizer

from perceptio.backbones import internvl
from perceptio.errors import CheckpointError, RecipeError
from perceptio.interfaces import SequenceLayout, text_positions
from perceptio.testing.component import MODEL

IMAGE_TOKEN = 7
VISION = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": [8, 8],
    "patch_size": [2, 2],
    "attention_bias": True,
}
TEXT = {
    "vocab_size": PADDED_VOCAB,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "pad_token_id": 258,
}
DTYPE = {"dtype": "float32"}


@functools.cache
def official(family, tied=False):
    """A whole InternVL in which no tensor is at its start, and all of them matter."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    config = InternVLConfig(
        vision_config=VISION,
        text_config={"model_type": family} | TEXT,
        image_token_id=IMAGE_TOKEN,
        image_seq_length=4,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = InternVLForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return model


def native_tensors(model):
    """The tensors of the published checkpoints, put together anew from the official model's parts."""
    vit, llm, head = model.model.vision_tower, model.model.language_model, model.model.multi_modal_projector
    tensors = {
        "vision_model.embeddings.class_embedding": vit.embeddings.cls_token,
        "vision_model.embeddings.position_embedding": vit.embeddings.position_embeddings,
    }

    def put(name, layer):
        tensors.update({f"{name}.{end}": value for end, value in layer.state_dict().items()})

    put("vision_model.embeddings.patch_embedding", vit.embeddings.patch_embeddings.projection)
    for number, layer in enumerate(vit.encoder.layer):
        name, attention = f"vision_model.encoder.layers.{number}", layer.attention
        for end in ("weight", "bias"):
            q_k_v = [getattr(part, end) for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
            tensors[f"{name}.attn.qkv.{end}"] = torch.cat(q_k_v)
        put(f"{name}.attn.proj", attention.projection_layer)
        put(f"{name}.norm1", layer.layernorm_before)
        put(f"{name}.norm2", layer.layernorm_after)
        put(f"{name}.mlp", layer.mlp)
        tensors |= {f"{name}.ls1": layer.lambda_1, f"{name}.ls2": layer.lambda_2}
    for number, layer in ((0, head.layer_norm), (1, head.linear_1), (3, head.linear_2)):
        put(f"mlp1.{number}", layer)
    if llm.config.model_type == "qwen2":
        put("language_model.model", llm)
        put("language_model.lm_head", model.lm_head)
    else:
        put("language_model.model.tok_embeddings", llm.embed_tokens)
        put("language_model.model.norm", llm.norm)
        put("language_model.output", model.lm_head)
        for number, layer in enumerate(llm.layers):
            name, attention = f"language_model.model.layers.{number}", layer.self_attn
            rows = []
            for group in range(TEXT["num_key_value_heads"]):
                # Heads of 4: two of queries share one of keys and one of values.
                rows += [attention.q_proj.weight[8 * group : 8 * group + 8]]
                rows += [attention.k_proj.weight[4 * group : 4 * group + 4]]
                rows += [attention.v_proj.weight[4 * group : 4 * group + 4]]
            tensors[f"{name}.attention.wqkv.weight"] = torch.cat(rows)
            put(f"{name}.attention.wo", attention.o_proj)
            put(f"{name}.feed_forward.w1", layer.mlp.gate_proj)
            put(f"{name}.feed_forward.w2", layer.mlp.down_proj)
            put(f"{name}.feed_forward.w3", layer.mlp.up_proj)
            put(f"{name}.attention_norm", layer.input_layernorm)
            put(f"{name}.ffn_norm", layer.post_attention_layernorm)
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def native_document(family):
    text = TEXT | {
        "model_type": {"qwen2": "qwen2", "llama": "internlm2"}[family],
        "rope_theta": 10000.0,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"},
        "use_bfloat16": True,
    }
    vision = {name: value for name, value in VISION.items() if name != "attention_bias"}
    vision |= {"image_size": 8, "patch_size": 2, "qkv_bias": True, "qk_normalization": False}
    return {
        "model_type": "internvl_chat",
        "vision_config": vision,
        "llm_config": text,
        "max_dynamic_patch": 6,
        "use_thumbnail": True,
        "downsample_ratio": 0.5,
    }


def write(folder, family, layout):
    """A checkpoint in a layout, in two shards."""
    model = official(family)
    if layout == "transformers":
        model.save_pretrained(folder, max_shard_size="12KB")
        assert len(list(folder.glob("*.safetensors"))) > 2
    else:
        tensors = native_tensors(model)
        weight_map = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(tensors)}
        for file in set(weight_map.values()):
            save_file({n: v for n, v in tensors.items() if weight_map[n] == file}, folder / file)
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}))
        (folder / "config.json").write_text(json.dumps(native_document(family)))
    write_tokenizer(folder)
    return str(folder)


def loaded(config, *widths):
    part = config.build(*widths).eval()
    assert config.load_weights(part)
    return part


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("layout", ["transformers", "native"])
def test_three_parts_equal_the_whole(tmp_path, family, layout):
    which, model = write(tmp_path, family, layout), official(family)
    configs = internvl.vision(which, max_tiles=6, **DTYPE), internvl.language(which, **DTYPE)
    vision, language = (loaded(config) for config in configs)
    head = loaded(internvl.projector(which), configs[0].spec.feature_dim, configs[1].spec.hidden_dim, MODEL)
    assert configs[1].spec.vocab_size == TEXT_VOCAB

    image = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(0))
    before, after = torch.tensor([3, 1, 4]), torch.tensor([1, 5, 9, 2])
    with torch.no_grad():
        seen = vision([image])
        inputs = torch.cat([language.embed(before), head(seen.features_MD), language.embed(after)])[None]
        length = inputs.shape[1]
        hidden = language(inputs, SequenceLayout.packed(text_positions(0, length, 1), [length]))
        logits = language.logits(hidden)

        tiles = vision.tiling.cut(image)
        ids = torch.cat([before, torch.full(seen.counts, IMAGE_TOKEN), after])[None]
        pixels = (tiles - vision.mean) / vision.std
        whole = model.model(input_ids=ids, pixel_values=pixels).last_hidden_state
        whole_logits = model(input_ids=ids, pixel_values=pixels).logits[..., :TEXT_VOCAB]
    assert len(tiles) == 7 and seen.counts == (28,)
    torch.testing.assert_close(hidden, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, whole_logits, rtol=1e-5, atol=1e-5)


def test_a_head_is_tied_as_the_whole_models_configuration_says(tmp_path):
    model = official("qwen2", tied=True)
    model.save_pretrained(write_tokenizer(tmp_path))
    language = loaded(internvl.language(str(tmp_path), **DTYPE))
    assert language.head is None
    torch.testing.assert_close(language.output_rows, model.lm_head.weight, rtol=0, atol=0)


def test_no_tensor_of_any_part_may_be_left_out(tmp_path):
    which = write(tmp_path, "llama", "native")
    tensors = native_tensors(official("llama"))
    (tmp_path / "model.safetensors.index.json").unlink()
    parts = internvl.vision(which), internvl.language(which), internvl.projector(which)
    built = parts[0].build(), parts[1].build(), parts[2].build(32, 16, MODEL)
    for name in tensors:
        save_file({n: v for n, v in tensors.items() if n != name}, tmp_path / "model.safetensors")
        refused = 0
        for config, part in zip(parts, built, strict=True):
            try:
                config.load_weights(part)
            except CheckpointError as error:
                assert "is missing" in str(error)
                refused += 1
        assert refused == 1, name
    assert len(tensors) > 40


PUBLISHED = {
    "2.5-1b": 938_193_024,
    "2.5-2b": 2_205_754_368,
    "2.5-4b": 3_712_637_952,
    "2.5-8b": 8_075_365_376,
    "3-1b": 938_193_024,
    # The two below are counted from the configurations, for want of a published figure.
    "3-2b": 2_088_957_440,
    "3-8b": 7_944_373_760,
}
"""Parameters of the checkpoints on the hub."""


@pytest.mark.parametrize("which", internvl.SIZES)
def test_a_size_needs_no_files_and_has_as_many_parameters_as_published(which, monkeypatch):
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("The hub was asked.")
    )
    vision, language = internvl.vision(which), internvl.language(which)
    with torch.device("meta"):
        parts = (
            vision.build(),
            internvl.projector(which).build(vision.spec.feature_dim, language.spec.hidden_dim, MODEL),
            language.build(),
        )
    count = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert count == PUBLISHED[which]
    assert parts[2].output_rows.dtype == torch.bfloat16
    assert vision.weights == language.weights == internvl.SIZES[which][0]


def test_a_size_takes_other_settings():
    assert internvl.vision("2.5-4b", max_tiles=6, weights=None).num_features(480, 640) == 1792
    assert internvl.language("2.5-4b", weights=None, max_length=4096).weights is None
    assert internvl.projector("2.5-4b", weights=None).weights is None


def test_a_native_configuration_is_read_with_its_tiles(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(native_document("llama")))
    assert internvl.vision(str(tmp_path)).max_tiles == 6
    config = internvl.language(str(tmp_path), text_tokenizer_files=str(tokenizer_folder()))
    settings = json.loads(config.model)
    assert settings["model_type"] == "llama" and settings["rope_parameters"]["rope_type"] == "dynamic"
    assert "use_bfloat16" not in settings and config.text_vocab_size == TEXT_VOCAB


def test_the_template_stands_as_internvls():
    assert internvl.TEMPLATE.user + internvl.TEMPLATE.before_image == "<|im_start|>user\n<img>"
    assert internvl.TEMPLATE.after_image == "</img>\n" and internvl.TEMPLATE.start == ""
    assert internvl.language("3-8b").template == internvl.TEMPLATE


def edit(**changes):
    return lambda document: document.update(changes)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (edit(model_type="llava"), CheckpointError, "of type 'llava', and none of an InternVL"),
        (
            edit(downsample_ratio=0.25),
            RecipeError,
            "has downsample_ratio 0.25, and vision:internvit does what 0.5",
        ),
        (edit(select_layer=-4), RecipeError, "has select_layer -4"),
        (
            lambda document: document["vision_config"].update(qk_normalization=True),
            RecipeError,
            "has qk_normalization True, and vision:internvit has False",
        ),
        (
            lambda document: document["vision_config"].update(norm_type="rms_norm"),
            RecipeError,
            "has norm_type 'rms_norm'",
        ),
    ],
)
def test_what_is_no_internvl_of_this_kind_is_refused(tmp_path, change, error, message):
    document = native_document("qwen2")
    change(document)
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(error, match=message):
        internvl.vision(str(tmp_path))


def test_a_folder_without_a_configuration_is_named(tmp_path):
    with pytest.raises(
        CheckpointError, match="config.json does not exist, .* download the InternVL's files again"
    ):
        internvl.vision(str(tmp_path))
    with pytest.raises(CheckpointError, match="There are no weights at 2.5-3b, and it is no hub id"):
        internvl.vision("2.5-3b")
    (tmp_path / "config.json").write_text(
        json.dumps(native_document("llama") | {"llm_config": {"model_type": "internlm2", "bias": True}})
    )
    with pytest.raises(RecipeError, match="internlm2: bias is true"):
        internvl.language(str(tmp_path), text_tokenizer_files=str(tokenizer_folder()))
