"""What a model asks for and is not done is refused by name; what does not act passes."""

import json

import pytest
from tiny_hf import model_json

from perceptio.backbones.language.hf_settings import canonical, parse, refuse
from perceptio.errors import RecipeError


@pytest.mark.parametrize(
    ("settings", "max_length", "message"),
    [
        ({"model_type": "gpt2"}, None, "does not serve models of type 'gpt2'.*it serves cohere, gemma"),
        ({}, 0, "max_length is 0; it must be at least 1"),
        ({"attention_dropout": 0.1}, None, "qwen2: attention_dropout is 0.1, which attention does not do"),
        (
            {"model_type": "gemma2", "attn_logit_softcapping": 50.0},
            None,
            "gemma2: attn_logit_softcapping is 50",
        ),
        (
            {"model_type": "gemma3_text", "use_bidirectional_attention": True},
            None,
            "use_bidirectional_attention",
        ),
        (
            {"model_type": "mistral", "sliding_window": 511},
            None,
            r"mistral: sliding_window \(511\) begins to act",
        ),
        (
            {
                "use_sliding_window": True,
                "sliding_window": 64,
                "layer_types": ["full_attention", "sliding_attention"],
            },
            65,
            "beyond 64 slots, which is not done here, and sequences may take 65; set max_length to at most 64",
        ),
        (
            {"rope_parameters": {"rope_type": "dynamic", "original_max_position_embeddings": 128}},
            None,
            r"qwen2: rope_type \(dynamic\) begins to act beyond 128 slots",
        ),
        (
            {
                "rope_parameters": {"full_attention": {"rope_type": "longrope"}},
                "original_max_position_embeddings": 99,
            },
            None,
            r"rope_type \(longrope\) begins to act beyond 99 slots",
        ),
    ],
)
def test_what_attention_does_not_do_is_refused(settings, max_length, message):
    with pytest.raises(RecipeError, match=message):
        refuse(json.loads(model_json(**settings)), max_length)


@pytest.mark.parametrize(
    ("settings", "max_length"),
    [
        ({"use_sliding_window": False, "sliding_window": 4}, None),
        ({"model_type": "mistral", "sliding_window": 512}, None),
        ({"model_type": "mistral", "sliding_window": 64}, 64),
        ({"sliding_window": 4, "layer_types": ["full_attention"] * 2}, None),
        ({"rope_parameters": {"rope_type": "dynamic"}}, None),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 64}}, None),
    ],
)
def test_what_does_not_act_passes(settings, max_length):
    refuse(json.loads(model_json(**settings)), max_length)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("gpt", "model is 'gpt', which is not a transformers configuration as JSON"),
        ("3", "model is '3', which is not a transformers configuration"),
        (
            '{"model_type": "llama", "hidden_size": 8}',
            "in model lacks vocab_size, num_hidden_layers",
        ),
    ],
)
def test_what_is_no_configuration_is_refused(model, message):
    with pytest.raises(RecipeError, match=message):
        parse(model)


def test_a_configuration_is_the_same_text_wherever_it_was_read():
    from transformers import AutoConfig

    one = AutoConfig.for_model("llama", name_or_path="/somewhere", dtype="bfloat16")
    other = AutoConfig.for_model("llama")
    assert canonical(one) == canonical(other)
    assert json.loads(canonical(one))["model_type"] == "llama"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_hidden_layers", 2**20),
        ("num_attention_heads", 0),
        ("num_attention_heads", "4"),
        ("hidden_size", -32),
        ("vocab_size", 2**40),
        ("rope_parameters", 7),
    ],
)
def test_a_setting_out_of_bounds_is_named(name, value):
    with pytest.raises(RecipeError, match=f"the configuration in model has {name} .*; it must be"):
        parse(model_json(**{name: value}))


def test_heads_divide_the_width_and_one_another():
    with pytest.raises(RecipeError, match="hidden_size 32 is no multiple of 5 heads"):
        parse(model_json(num_attention_heads=5))
    with pytest.raises(RecipeError, match="4 heads of attention are no multiple of 3 key-value heads"):
        parse(model_json(num_key_value_heads=3))
