"""Our decoder's weights in transformers' Llama: the same function, so that two decoding loops can be compared."""

from typing import Any

import torch
from torch import Tensor

from perceptio.backbones.language.decoder import Decoder, DecoderConfig


@torch.no_grad()
def llama_twin(config: DecoderConfig, decoder: Decoder) -> Any:
    """A `LlamaForCausalLM` that computes what the decoder computes; of one position axis alone.

    Both turn the first half of a head against the second, so weights are copied as they are, the joint projections
    cut into their parts. Llama does not scale its inputs, so that its input rows hold our scaled ones.

    Args:
        config: The decoder's config.
        decoder: The decoder, in float32; its device and weights are copied.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    assert config.position_axes == 1, "Llama has one position axis."
    assert config.rope_fastest == 1.0, "Llama's fastest rotation is one radian a slot."
    rows_VD = decoder.embedding.weight
    feed_forward_dim = decoder.blocks[0].down.in_features
    twin = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(rows_VD),
            hidden_size=config.hidden_dim,
            intermediate_size=feed_forward_dim,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            rms_norm_eps=torch.finfo(rows_VD.dtype).eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    )
    twin.set_attn_implementation("sdpa")
    weights: dict[str, Tensor] = {
        "model.embed_tokens.weight": decoder.embed(torch.arange(len(rows_VD), device=rows_VD.device)),
        "model.norm.weight": decoder.norm.weight,
        "lm_head.weight": rows_VD,
    }
    for number, block in enumerate(decoder.blocks):
        sizes = [heads * block.head_dim for heads in block.heads]
        query, key, value = block.query_key_value.weight.split(sizes)
        gate, up = block.gate_up.weight.chunk(2)
        parts = {
            "input_layernorm": block.attention_norm.weight,
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": block.attention_out.weight,
            "post_attention_layernorm": block.feed_forward_norm.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.down.weight,
        }
        weights |= {f"model.layers.{number}.{part}.weight": weight for part, weight in parts.items()}
    twin.load_state_dict(weights)
    return twin.to(rows_VD.device).eval()
