import copy

import pytest
import torch
from tiny_hf import TEXT_VOCAB, official_model, write_checkpoint

from perceptio.backbones.language.hf import HFLanguageConfig, LoRA
from perceptio.interfaces import SequenceLayout, text_positions

pytestmark = pytest.mark.gpu
LENGTHS = (9, 30)
IDS = torch.randint(0, TEXT_VOCAB, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))


def layout(device):
    positions = torch.cat([text_positions(0, length, 1) for length in LENGTHS], 1)
    return SequenceLayout.packed(positions.to(device), LENGTHS)


def relative(one, other):
    return float((one.double() - other.double()).norm() / other.double().norm())


def official_run(model, weights_TD, device):
    """Hidden states, and a gradient, of transformers' own model on each sample alone."""
    model = model.to(device)
    parts = [model.base_model(ids[None].to(device)).last_hidden_state[0] for ids in IDS.split(LENGTHS)]
    hidden_TD = torch.cat(parts)
    (hidden_TD.float() * weights_TD).sum().backward()
    return hidden_TD.detach(), model.base_model.layers[0].self_attn.q_proj.weight.grad


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "gemma3_text"])
def test_packed_bfloat16_is_as_near_to_float32_as_transformers_own(model_type, tmp_path, device):
    official = official_model(model_type, hidden_size=128, head_dim=32).bfloat16()
    folder = write_checkpoint(tmp_path, official)
    weights_TD = torch.randn(sum(LENGTHS), 128, generator=torch.Generator().manual_seed(1)).to(device)
    truth = official_run(copy.deepcopy(official).float(), weights_TD, device)
    theirs = official_run(official, weights_TD, device)

    config = HFLanguageConfig.from_pretrained(folder, gradient_checkpointing=True)
    assert config.dtype == "bfloat16"
    backbone = config.build()
    config.load_weights(backbone)
    backbone = backbone.to(device).train()
    hidden_TD = backbone(backbone.embed(IDS.to(device))[None], layout(device))[0]
    (hidden_TD * weights_TD).sum().backward()
    mine = hidden_TD.detach(), backbone.trunk.layers[0].self_attn.q_proj.weight.grad
    for ours, other, exact in zip(mine, theirs, truth, strict=True):
        # Where rounding falls is chance: of two computations of one precision neither is far behind the other.
        assert relative(ours, exact) <= 1.5 * relative(other, exact) < 0.3


@torch.no_grad()
def test_generation_with_a_cache_does_not_wait_for_the_device(tmp_path, device):
    folder = write_checkpoint(tmp_path, official_model("qwen2"))
    config = HFLanguageConfig.from_pretrained(folder, lora=LoRA(rank=2))
    backbone = config.build().to(device).eval()
    cache, past_B = backbone.new_cache(2, 16), torch.tensor([3, 5], device=device)
    ids_BT = IDS[:10].view(2, 5).to(device)
    positions_1BT = torch.arange(5.0, device=device).expand(1, 2, 5)
    start = SequenceLayout.cached(positions_1BT, torch.zeros_like(past_B), 5)
    backbone(backbone.embed(ids_BT), start, cache)
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(3):
            layout = SequenceLayout.cached((past_B + step)[None, :, None].float(), past_B + step, 6 + step)
            hidden_B1D = backbone(backbone.embed(ids_BT[:, :1]), layout, cache)
            backbone.logits(hidden_B1D).argmax(-1)
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
