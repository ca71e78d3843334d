"""A transformers checkpoint's text tokenizer and configurations, made on the spot and as small as they can be."""

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT_VOCAB = 256 + 2 + len(SPECIAL)
"""Bytes, two merges and the special tokens."""

PADDED_VOCAB = 272
"""Rows of the model, some of which no id of the text tokenizer uses."""


def write_tokenizer(folder: Path, chat_template: str | None = CHATML_TEMPLATE) -> Path:
    """Byte-level BPE with two merges, as Qwen's is made."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate([*alphabet, "Ġp", "oi"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "p"), ("o", "i")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "clean_up_tokenization_spaces": False,
    }
    if chat_template is not None:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@functools.cache
def tokenizer_folder() -> Path:
    """One such tokenizer for the whole run of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="perceptio-tokenizer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_tokenizer(folder)


SIZES = {
    "vocab_size": PADDED_VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 258,
    "bos_token_id": 258,
    "eos_token_id": 260,
}


def model_json(model_type: str = "qwen2", **settings: Any) -> str:
    """A configuration of two layers."""
    return json.dumps({"model_type": model_type, **SIZES, **settings}, sort_keys=True)


SETTINGS: dict[str, dict[str, Any]] = {
    "cohere": {"logit_scale": 0.3},
    "gemma": {"head_dim": 8},
    # As published but for the cap on attention; windows and longest sequence are the same, so that none acts.
    "gemma2": {
        "head_dim": 8,
        "query_pre_attn_scalar": 11,
        "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": None,
        "sliding_window": 512,
    },
    "gemma3_text": {
        "head_dim": 8,
        "query_pre_attn_scalar": 11,
        "final_logit_softcapping": 2.0,
        "sliding_window": 512,
    },
    "granite": {
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.3,
        "residual_multiplier": 0.7,
        "logits_scaling": 2.5,
    },
    "mistral": {"sliding_window": 512},
    "qwen2": {"use_sliding_window": False, "sliding_window": 4, "tie_word_embeddings": True},
    "qwen3": {"head_dim": 16, "tie_word_embeddings": True},
    "smollm3": {"no_rope_layers": [1, 0]},
}
"""What makes each type of model itself, at this size."""


def official_model(model_type: str, **settings: Any) -> Any:
    """An official model in which every tensor is random, and all of them matter."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {**SIZES, **SETTINGS.get(model_type, {}), **settings}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return model


def write_checkpoint(folder: Path, model: Any) -> Path:
    """A model's folder with a text tokenizer, as the hub has it."""
    model.save_pretrained(folder)
    return write_tokenizer(folder)
