import pytest
import torch
from tiny_hf import TEXT_VOCAB, official_model, write_checkpoint

from perceptio.backbones.language.hf import HFLanguageConfig, LoRA
from perceptio.interfaces import SequenceLayout, text_positions
from perceptio.ops.attention import chosen_path

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="xformers' kernels need CUDA, and there is none"
    ),
]
LENGTHS = (9, 30)
IDS = torch.randint(0, TEXT_VOCAB, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))


def layout():
    positions = torch.cat([text_positions(0, length, 1) for length in LENGTHS], 1)
    return SequenceLayout.packed(positions.cuda(), LENGTHS)


def relative(one, other):
    return float((one.double() - other.double()).norm() / other.double().norm())


@pytest.mark.parametrize("model_type", ["qwen2", "llama", "gemma3_text"])
def test_bfloat16_on_xformers_agrees_with_float32_forward_and_backward(model_type, tmp_path):
    assert chosen_path("cuda", torch.bfloat16, 32) == "xformers"
    official = official_model(model_type, hidden_size=128, head_dim=32).bfloat16()
    folder = write_checkpoint(tmp_path, official)
    # The same rounded values in float32 are the truth.
    exact = official.float().cuda()
    parts = [exact.base_model(ids[None].cuda()).last_hidden_state[0] for ids in IDS.split(LENGTHS)]
    truth_TD = torch.cat(parts)
    weights_TD = torch.randn(truth_TD.shape, generator=torch.Generator().manual_seed(1)).cuda()
    (truth_TD * weights_TD).sum().backward()

    config = HFLanguageConfig.from_pretrained(folder, gradient_checkpointing=True)
    assert config.dtype == "bfloat16"
    backbone = config.build()
    config.load_weights(backbone)
    backbone = backbone.cuda().train()
    hidden_TD = backbone(backbone.embed(IDS.cuda())[None], layout())[0]
    (hidden_TD * weights_TD).sum().backward()
    assert relative(hidden_TD, truth_TD) < 0.03
    mine = backbone.trunk.layers[0].self_attn.q_proj.weight.grad
    assert relative(mine, exact.base_model.layers[0].self_attn.q_proj.weight.grad) < 0.06


@torch.no_grad()
def test_generation_with_a_cache_does_not_wait_for_the_device(tmp_path):
    folder = write_checkpoint(tmp_path, official_model("qwen2"))
    config = HFLanguageConfig.from_pretrained(folder, lora=LoRA(rank=2))
    backbone = config.build().cuda().eval()
    cache, past_B = backbone.new_cache(2, 16), torch.tensor([3, 5], device="cuda")
    ids_BT = IDS[:10].view(2, 5).cuda()
    positions_1BT = torch.arange(5.0, device="cuda").expand(1, 2, 5)
    start = SequenceLayout.cached(positions_1BT, torch.zeros_like(past_B), 5)
    backbone(backbone.embed(ids_BT), start, cache)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(3):
            layout = SequenceLayout.cached((past_B + step)[None, :, None].float(), past_B + step, 6 + step)
            hidden_B1D = backbone(backbone.embed(ids_BT[:, :1]), layout, cache)
            backbone.logits(hidden_B1D).argmax(-1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
