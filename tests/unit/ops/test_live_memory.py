"""The memory of live tensors, counted by hand; and the same count without values."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from perceptio.ops.live_memory import LiveMemory


def test_a_storage_counts_once_as_long_as_anything_holds_it():
    before = torch.zeros(100)
    with LiveMemory() as memory:
        memory.count([before, before[:10]])
        assert memory.now == 400
        made = before + 1
        view = made.view(10, 10)[2]
        assert memory.now == 800
        del made
        assert memory.now == 800
        del view
        assert memory.now == 400
        before.add_(1)
    assert (memory.now, memory.peak) == (400, 800)


def test_what_is_known_is_computed_and_what_is_not_has_a_shape():
    with LiveMemory() as memory:
        unknown = memory.without_values(torch.zeros(3, 4, dtype=torch.bfloat16))
        known = torch.tensor([2, 0]).sort().values
        rows = unknown[known]
        assert known.tolist() == [0, 2] and rows.shape == (2, 4) and rows.dtype == torch.bfloat16
        assert memory.peak < 200
        huge = memory.without_values(torch.empty(1, device="meta")).expand(2**40).clone()
    assert huge.shape == (2**40,) and memory.peak > 2**42


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_step_without_values_counts_as_one_with_them(checkpointed):
    def peak(with_values):
        layers = nn.ModuleList(
            [nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)) for _ in range(4)]
        )
        with LiveMemory() as memory:
            if not with_values:
                for layer in layers:
                    for linear in (layer[0], layer[2]):
                        for name, parameter in list(linear.named_parameters()):
                            setattr(linear, name, nn.Parameter(memory.without_values(parameter)))
            memory.count(layers.parameters())
            optimizer = torch.optim.AdamW(layers.parameters(), fused=True)
            for _ in range(2):
                hidden = torch.ones(32, 64)
                with torch.autocast("cpu", torch.bfloat16):
                    for layer in layers:
                        hidden = (
                            checkpoint(layer, hidden, use_reentrant=False) if checkpointed else layer(hidden)
                        )
                hidden.float().sum().backward()
                optimizer.step()
                optimizer.zero_grad()
        return memory.peak

    assert peak(with_values=True) == peak(with_values=False)
