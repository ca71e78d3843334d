"""Read the configurations of transformers' models and check that everything they need is supported."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from perceptio.errors import RecipeError
from perceptio.ops.configuration import Configuration
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import InvalidJSONError, parse_json

MODEL_TYPES = (
    "cohere",
    "gemma",
    "gemma2",
    "gemma3_text",
    "granite",
    "llama",
    "mistral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
)
"""The supported model types: a test compares their hidden states and logits with those of the official model."""

CHANGING_ROPE = ("dynamic", "longrope")
"""Types of rotary positions that change for all slots when one sequence of a pass exceeds a length."""

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "sliding_window",
    "original_max_position_embeddings",
)
"""Settings that are positive integers in every type."""
NEEDED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
VOLATILE = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")


def canonical(config: Any) -> str:
    """Return a transformers configuration as JSON, without settings that depend on versions or file paths."""
    settings = {key: value for key, value in config.to_dict().items() if key not in VOLATILE}
    return json.dumps(settings, sort_keys=True)


def parse(model: str) -> dict[str, Any]:
    """Parse a configuration from JSON and check its sizes.

    Raises:
        RecipeError: It is not a valid configuration.
    """
    try:
        settings = parse_json(model)
    except InvalidJSONError:
        settings = None
    if not isinstance(settings, dict):
        raise RecipeError(
            f"language:hf: model is {model[:40]!r}, which is not a transformers configuration as JSON; "
            "HFLanguageConfig.from_pretrained writes one."
        )
    absent = [name for name in ("model_type", *NEEDED) if settings.get(name) is None]
    if absent:
        raise RecipeError(f"language:hf: the configuration in model lacks {', '.join(absent)}.")
    checked = Configuration("language:hf: the configuration in model", settings, RecipeError)
    checked.text("model_type")
    check_sizes(checked)
    heads, kv_heads = checked.whole("num_attention_heads"), checked.whole("num_key_value_heads", None)
    if settings.get("head_dim") is None and settings["hidden_size"] % heads:
        raise RecipeError(
            f"language:hf: hidden_size {settings['hidden_size']} is no multiple of {heads} heads."
        )
    if kv_heads is not None and heads % kv_heads:
        raise RecipeError(
            f"language:hf: {heads} heads of attention are no multiple of {kv_heads} key-value heads."
        )
    return settings


def check_sizes(configuration: Configuration) -> None:
    """Check that sizes are plausible, before transformers creates lists of that length.

    Raises:
        PerceptioError: A size is not, with the error class of the configuration; the message names the value.
    """
    for name in SIZES:
        configuration.whole(name, None)
    configuration.check_depth()
    for name in ("rope_parameters", "rope_scaling"):
        configuration.section(name, {})


def longest_served(settings: Mapping[str, Any]) -> int:
    """Return the longest sequence for which a model was made."""
    return settings["max_position_embeddings"]


def refuse(settings: Mapping[str, Any], max_length: int | None) -> None:
    """Check that a model needs nothing that is not supported.

    Args:
        settings: The configuration of the model.
        max_length: The longest sequence that it will process. None: the longest for which it was made.

    Raises:
        RecipeError: The model needs something unsupported (the message names its type and the setting), or
            `max_length` is below 1.
    """
    if max_length is not None and max_length < 1:
        raise RecipeError(f"language:hf: max_length is {max_length}; it must be at least 1, or None.")
    kind = settings["model_type"]
    if kind not in MODEL_TYPES:
        raise RecipeError(
            f"language:hf does not serve models of type {kind!r}, which no test has compared with the official one; "
            f"it serves {', '.join(MODEL_TYPES)}."
        )
    longest = longest_served(settings) if max_length is None else max_length
    for name in ("attn_logit_softcapping", "use_bidirectional_attention", "attention_dropout"):
        if settings.get(name):
            raise RecipeError(f"{kind}: {name} is {settings[name]!r}, which attention does not do here.")
    with parsing(
        RecipeError, f"{kind}: its settings of positions and windows cannot be understood ({{reason}})."
    ):
        limits = list(_limits(settings))
    for name, limit in limits:
        if longest > limit:
            raise RecipeError(
                f"{kind}: {name} begins to act beyond {limit} slots, which is not done here, and sequences may take "
                f"{longest}; set max_length to at most {limit}, within which the model is the same without it."
            )


def _limits(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield settings that have an effect only beyond a sequence length, with this length."""
    window, layers = settings.get("sliding_window"), settings.get("layer_types") or ("sliding_attention",)
    if window is not None and "sliding_attention" in layers and settings.get("use_sliding_window", True):
        yield f"sliding_window ({window})", int(window)
    rope = settings.get("rope_parameters") or {}
    for one in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        if one.get("rope_type") in CHANGING_ROPE:
            original = one.get("original_max_position_embeddings") or settings.get(
                "original_max_position_embeddings", longest_served(settings)
            )
            yield f"rope_type ({one['rope_type']})", int(original)
