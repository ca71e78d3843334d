"""InternVL 2.5 and 3 as three parts of one checkpoint: vision encoder, projector, language model.

A part is named by a size of the table, whose weights are the published ones on the hub, or by a folder or hub id
whose `config.json` is read once. Either way its config holds all sizes, so that nothing is looked up later:

    Recipe(vision=vision("2.5-4b"), vision_head=projector("2.5-4b"), language=language("2.5-4b"), ...)

Any field of a part's config can be set otherwise, such as `vision("2.5-4b", max_tiles=6)`, or `weights=None` for
random values.
"""

import json
from collections.abc import Mapping
from typing import Any

import attrs

from perceptio.backbones.language.hf import SETTINGS_FILES, HFLanguageConfig
from perceptio.backbones.language.hf_settings import canonical, check_sizes
from perceptio.backbones.language.hf_text import CHATML, read_tokenizer, vocabulary_size
from perceptio.backbones.vision.internvit import InternViTConfig
from perceptio.errors import CheckpointError, RecipeError, quoted
from perceptio.heads.mlp import MLPHeadConfig
from perceptio.ops.configuration import Configuration
from perceptio.ops.foreign import naming, parsing
from perceptio.ops.hub import resolve
from perceptio.ops.precision import Precision, published_precision

TEMPLATE = attrs.evolve(CHATML, before_image="<img>", after_image="</img>\n")
"""ChatML with the marks around an image's features, without a system prompt (as Sa2VA)."""

ROWS = {"qwen2": 151674, "llama": 92553}
"""Ids of the text tokenizers, which are the rows of the models: Qwen2.5's 151665 and InternLM2.5's 92544, and nine
that InternVL adds, such as `<img>` (`vocab_size` in the published config.json)."""

SHARED = {
    "hidden_act": "silu",
    "initializer_range": 0.02,
    # Published configurations scale rotary positions beyond this length, and up to it have them as they are.
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "tie_word_embeddings": False,
}
QWEN2 = SHARED | {"model_type": "qwen2", "rms_norm_eps": 1e-6, "use_sliding_window": False}
# InternLM2.5 is Llama under other names.
INTERNLM2 = SHARED | {"model_type": "llama", "rms_norm_eps": 1e-5, "attention_bias": False, "mlp_bias": False}


def _sizes(width: int, feed_forward: int, layers: int, heads: int, kv_heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }


QWEN2_5_05B = QWEN2 | _sizes(896, 4864, 24, 14, 2)
QWEN2_5_15B = QWEN2 | _sizes(1536, 8960, 28, 12, 2)
QWEN2_5_3B = QWEN2 | _sizes(2048, 11008, 36, 16, 2)
QWEN2_5_7B = QWEN2 | _sizes(3584, 18944, 28, 28, 4)
INTERNLM2_5_18B = INTERNLM2 | _sizes(2048, 8192, 24, 16, 8)
INTERNLM2_5_7B = INTERNLM2 | _sizes(4096, 14336, 32, 32, 8)

SIZES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "2.5-1b": ("OpenGVLab/InternVL2_5-1B", QWEN2_5_05B),
    "2.5-2b": ("OpenGVLab/InternVL2_5-2B", INTERNLM2_5_18B),
    "2.5-4b": ("OpenGVLab/InternVL2_5-4B", QWEN2_5_3B),
    "2.5-8b": ("OpenGVLab/InternVL2_5-8B", INTERNLM2_5_7B),
    "3-1b": ("OpenGVLab/InternVL3-1B", QWEN2_5_05B),
    "3-2b": ("OpenGVLab/InternVL3-2B", QWEN2_5_15B),
    "3-8b": ("OpenGVLab/InternVL3-8B", QWEN2_5_7B),
}
"""Hub id and language model of each size (model cards and config.json of the hub)."""

TEXT_TOKENIZERS = {"qwen2": None, "llama": "OpenGVLab/InternVL2_5-8B-MPO-hf"}
"""Where a text tokenizer lies that transformers reads, if not beside the weights: InternLM2.5's own runs code."""

EXPECTED = {
    "hidden_act": "gelu",
    "norm_type": "layer_norm",
    "layer_norm_eps": 1e-6,
    "use_qk_norm": False,
    "qk_normalization": False,
    "attention_bias": True,
    "qkv_bias": True,
}
"""What `InternViTConfig` builds, in the words of both kinds of config.json."""


def vision(which: str, **settings: Any) -> InternViTConfig:
    """The vision encoder of an InternVL.

    Args:
        which: A size of the table, or a folder or hub id.
        **settings: Fields of the config to set otherwise.

    Raises:
        CheckpointError: There is no such folder or hub id, or its config.json is none of an InternVL.
        RecipeError: Its vision encoder is none that `InternViTConfig` builds.
    """
    if which in SIZES:
        return InternViTConfig(**{"weights": SIZES[which][0], "dtype": "bfloat16"} | settings)
    document = _read(which)
    held = document.section("vision_config")
    for name, value in EXPECTED.items():
        if held.values.get(name, value) != value:
            raise RecipeError(
                f"The vision encoder of {which} has {name} {quoted(held.values[name])}, and vision:internvit has "
                f"{value!r}."
            )
    found: dict[str, Any] = {
        "hidden_dim": held.whole("hidden_size"),
        "num_layers": held.whole("num_hidden_layers", high=1000),
        "num_heads": held.whole("num_attention_heads", high=1000),
        "feed_forward_dim": held.whole("intermediate_size"),
        "patch_size": held.side("patch_size"),
        "tile_size": held.side("image_size"),
        "max_tiles": document.whole("max_dynamic_patch", 12, high=1000),
        "thumbnail": document.flag("use_thumbnail", True),
        "dtype": _precision(document, settings),
        "weights": which,
    }
    with naming(document.where):
        return InternViTConfig(**found | settings)


def projector(which: str, **settings: Any) -> MLPHeadConfig:
    """The head between them, whose widths follow from the two.

    Args:
        which: A size of the table, or a folder or hub id.
        **settings: Fields of the config to set otherwise.
    """
    return MLPHeadConfig(**{"weights": SIZES[which][0] if which in SIZES else which} | settings)


def language(which: str, **settings: Any) -> HFLanguageConfig:
    """The language model of an InternVL, with its text tokenizer and chat template.

    Args:
        which: A size of the table, or a folder or hub id.
        **settings: Fields of the config to set otherwise, such as `lora`. A folder with InternLM2.5's own text
            tokenizer, which transformers reads by running its code, needs `text_tokenizer_files`: the folder or hub
            id of the same tokenizer as the `-hf` conversions have it.

    Raises:
        CheckpointError: There is no such folder or hub id, its config.json is none of an InternVL, or the text
            tokenizer cannot be read.
        RecipeError: The language model asks for something that is not done here.
    """
    found: dict[str, Any]
    if which in SIZES:
        repository, model = SIZES[which]
        family = model["model_type"]
        found = {
            "model": json.dumps(model | {"vocab_size": ROWS[family]}, sort_keys=True),
            "text_vocab_size": ROWS[family],
            "text_tokenizer_files": TEXT_TOKENIZERS[family] or repository,
            "weights": repository,
            "dtype": "bfloat16",
        }
    else:
        document = _read(which)
        files = settings.get("text_tokenizer_files") or which
        found = {
            "model": _language_model(document),
            "text_vocab_size": vocabulary_size(read_tokenizer(resolve(files, SETTINGS_FILES))),
            "text_tokenizer_files": files,
            "weights": which,
            "dtype": _precision(document, settings),
        }
    with naming(which):
        return HFLanguageConfig(**found | {"template": TEMPLATE} | settings)


def _read(which: str) -> Configuration:
    """The config.json of a folder or hub id."""
    path = resolve(which, SETTINGS_FILES) / "config.json"
    document = Configuration.read(path, CheckpointError, "copy or download the InternVL's files again")
    kind = document.text("model_type")
    if kind not in ("internvl", "internvl_chat"):
        raise CheckpointError(
            f"{path} is the configuration of a model of type {kind!r}, and none of an InternVL (internvl or "
            f"internvl_chat); the sizes known by name are {', '.join(SIZES)}."
        )
    for name, value in {"downsample_ratio": 0.5, "select_layer": -1, "vision_feature_layer": -1}.items():
        if document.values.get(name, value) != value:
            raise RecipeError(
                f"{path} has {name} {quoted(document.values[name])}, and vision:internvit does what {value} means."
            )
    return document


def _language_model(document: Configuration) -> str:
    """The language model's whole configuration in transformers' words, as JSON."""
    from transformers import AutoConfig

    held = document.section("text_config" if "text_config" in document.values else "llm_config", {})
    check_sizes(held)
    kind = held.text("model_type", "qwen2")
    if kind == "internlm2":
        if held.values.get("bias"):
            raise RecipeError(
                "internlm2: bias is true, which the Llama that takes its place does not have here."
            )
        kind = "llama"
    with parsing(
        CheckpointError, f"{document.where} has a language model that transformers refuses ({{reason}})."
    ):
        known = AutoConfig.for_model(kind).to_dict().keys() | {"rope_theta", "rope_scaling"}
        settings = {name: value for name, value in held.values.items() if name in known - {"model_type"}}
        if document.text("model_type") == "internvl" and "tie_word_embeddings" in document.values:
            # transformers ties the whole model's head as the whole model's configuration says.
            settings["tie_word_embeddings"] = document.flag("tie_word_embeddings")
        return canonical(AutoConfig.for_model(kind, **settings))


def _precision(document: Configuration, settings: Mapping[str, Any]) -> Precision:
    """The precision that is asked for, or else that of the published weights."""
    stated = document.values.get("dtype", document.values.get("torch_dtype"))
    with naming(document.where):
        return settings.get("dtype") or published_precision(stated)
