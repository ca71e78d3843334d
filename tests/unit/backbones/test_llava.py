"""Projector and language model of a LLaVA-1.5 compute what transformers' whole model computes."""

import json
from pathlib import Path

import pytest
import torch

from perceptio.backbones import llava
from perceptio.interfaces import SequenceLayout, text_positions
from perceptio.testing.component import MODEL

TEXT = llava.LLAMA | {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 8,
    "patch_size": 4,
}


def official(folder: Path):
    """A whole LLaVA in which no tensor is at its start, saved as transformers does."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    config = LlavaConfig(
        vision_config=VISION, text_config=TEXT, image_token_index=60, tie_word_embeddings=False
    )
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    model.save_pretrained(folder)
    return model


def test_projector_and_language_model_equal_those_of_the_whole(tmp_path):
    model, shared = official(tmp_path), {"weights": str(tmp_path)}
    head_config = llava.projector("1.5-7b", **shared)
    head = head_config.build(8, 16, MODEL)
    settings = {"model": json.dumps(TEXT), "text_vocab_size": 62, "dtype": "float32"}
    config = llava.language("1.5-7b", **settings, **shared)
    language = config.build().eval()
    assert head_config.load_weights(head) and config.load_weights(language)
    features_MD, ids = torch.randn(5, 8), torch.tensor([3, 1, 4, 1, 5])
    with torch.no_grad():
        seen = head(features_MD)
        torch.testing.assert_close(seen, model.model.multi_modal_projector(features_MD))
        inputs = torch.cat([seen, language.embed(ids)])[None]
        hidden = language(inputs, SequenceLayout.packed(text_positions(0, 10, 1), [10]))
        whole = model.model.language_model(inputs_embeds=inputs).last_hidden_state
        torch.testing.assert_close(hidden, whole, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            language.logits(hidden), model.lm_head(whole)[..., :62], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(("which", "billions"), [("1.5-7b", 6.7), ("1.5-13b", 13.0)])
def test_a_size_needs_no_files_and_is_as_large_as_it_says(which, billions):
    vision, language = llava.vision(), llava.language(which)
    assert vision.num_features(480, 640) == 576 and vision.spec.feature_dim == 1024
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in language.build().parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.1)
