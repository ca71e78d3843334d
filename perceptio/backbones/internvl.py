"""InternVL 2.5 and 3 as three parts of one checkpoint: vision encoder, projector and language model.

    Recipe(vision=vision("2.5-4b"), vision_head=projector("2.5-4b"), language=language("2.5-4b"), ...)

The argument is a size of the table `SIZES`, with the published weights on the hub, or a folder or hub id whose
`config.json` is read once. Either way the resulting config holds all sizes, so that nothing is looked up later.

Keyword arguments change any field of a part's config, such as `vision("2.5-4b", max_tiles=6)`, or `weights=None` for
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
"""ChatML without a system prompt, with InternVL's marks around the features of an image (as in Sa2VA)."""

ROWS = {"qwen2": 151674, "llama": 92553}
"""The number of ids of the text tokenizer, and so of vocabulary rows, by type of language model.

They are the 151665 ids of Qwen2.5 and the 92544 of InternLM2.5, plus nine that InternVL adds, such as `<img>`
(`vocab_size` in the published config.json).
"""

SHARED = {
    "hidden_act": "silu",
    "initializer_range": 0.02,
    # Published configurations scale rotary positions only beyond this length.
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "tie_word_embeddings": False,
}
QWEN2 = SHARED | {"model_type": "qwen2", "rms_norm_eps": 1e-6, "use_sliding_window": False}
# InternLM2.5 is a Llama with other tensor names.
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
"""The hub id and the language model of each size (from the model cards and config.json files on the hub)."""

TEXT_TOKENIZERS = {"qwen2": None, "llama": "OpenGVLab/InternVL2_5-8B-MPO-hf"}
"""The hub id of the text tokenizer, if not that of the weights: reading InternLM2.5's own would run its code."""

EXPECTED = {
    "hidden_act": "gelu",
    "norm_type": "layer_norm",
    "layer_norm_eps": 1e-6,
    "use_qk_norm": False,
    "qk_normalization": False,
    "attention_bias": True,
    "qkv_bias": True,
}
"""The settings of `InternViTConfig`'s network, under their names in both formats of config.json."""


def vision(which: str, **settings: Any) -> InternViTConfig:
    """Create the config of the vision encoder of an InternVL.

    Args:
        which: A size in `SIZES`, or a folder or hub id.
        **settings: Fields of the config to change.

    Raises:
        CheckpointError: There is no such folder or hub id, or its config.json is not that of an InternVL.
        RecipeError: `InternViTConfig` does not support its vision encoder.
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
    """Create the config of the projector of an InternVL. Its widths are derived from the other two parts.

    Args:
        which: A size in `SIZES`, or a folder or hub id.
        **settings: Fields of the config to change.
    """
    return MLPHeadConfig(**{"weights": SIZES[which][0] if which in SIZES else which} | settings)


def language(which: str, **settings: Any) -> HFLanguageConfig:
    """Create the config of the language model of an InternVL, with its text tokenizer and chat template.

    Args:
        which: A size in `SIZES`, or a folder or hub id.
        **settings: Fields of the config to change, such as `lora`. A folder with InternLM2.5's own text tokenizer,
            which transformers can only read by running its code, needs `text_tokenizer_files`: the folder or hub id
            of an `-hf` conversion with the same tokenizer.

    Raises:
        CheckpointError: There is no such folder or hub id, its config.json is not that of an InternVL, or the text
            tokenizer cannot be read.
        RecipeError: The language model needs something that is not supported.
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
    """Read the config.json of a folder or hub id."""
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
    """Return the language model's whole configuration as JSON in the format of transformers."""
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
            # transformers decides by the whole model's configuration whether the head is tied.
            settings["tie_word_embeddings"] = document.flag("tie_word_embeddings")
        return canonical(AutoConfig.for_model(kind, **settings))


def _precision(document: Configuration, settings: Mapping[str, Any]) -> Precision:
    """Return the precision in `settings`, or else that of the published weights."""
    stated = document.values.get("dtype", document.values.get("torch_dtype"))
    with naming(document.where):
        return settings.get("dtype") or published_precision(stated)
