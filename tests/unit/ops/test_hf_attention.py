"""The attention that transformers' layers call: what they ask is done or refused."""

import pytest
import torch
from torch import nn

from perceptio.errors import RecipeError
from perceptio.interfaces import SequenceLayout, text_positions
from perceptio.ops.attention import reference
from perceptio.ops.hf_attention import NAME, _attend, register
from perceptio.ops.kv_cache import KeyValueCache


def tensors(slots=5):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, slots, 8, generator=generator) for heads in (4, 2, 2)]


def layout(*lengths):
    return SequenceLayout.packed(text_positions(0, sum(lengths), 1), lengths)


def test_it_is_known_by_its_name():
    from transformers import AttentionInterface

    assert register() == NAME and NAME in AttentionInterface()


@pytest.mark.parametrize("scaling", [None, 8**-0.5, 0.3])
def test_heads_change_places_and_the_scale_is_the_models(scaling):
    q, k, v = tensors()
    out, weights = _attend(nn.Identity(), q, k, v, None, scaling=scaling, layout=layout(2, 3))
    factor = 1.0 if scaling is None else scaling * 8**0.5
    expected = reference(q.transpose(1, 2) * factor, k.transpose(1, 2), v.transpose(1, 2), layout(2, 3))
    assert weights is None
    torch.testing.assert_close(out, expected)


def test_the_precision_is_that_of_the_values():
    q, k, v = tensors()
    out, _ = _attend(nn.Identity(), q, k, v.bfloat16(), None, layout=layout(5))
    assert out.dtype == torch.bfloat16


def test_kept_keys_follow_each_rows_own():
    kept, (_, k, v) = KeyValueCache(2, 6), tensors(2)
    k, v = (x.transpose(1, 2).expand(2, -1, -1, -1) for x in (k, v))
    past = torch.tensor([0, 3])
    keys, values = kept.write(7, k, v, SequenceLayout.cached(torch.zeros(1, 2, 2), past, 5))
    assert keys.shape == (2, 6, 2, 8)
    assert torch.equal(keys[0, :2], k[0]) and torch.equal(values[1, 3:5], v[1])
    assert float(keys[1, :3].abs().max()) == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layout": None}, "without a layout; pass layout="),
        ({"softcap": 30.0}, "asks attention for softcap, which is not done here"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"position_bias": torch.zeros(1)}, "position_bias"),
        ({"dropout": 0.1}, "dropout"),
        ({"attention_mask": torch.zeros(1, 1, 5, 5)}, "attention_mask"),
        ({"is_causal": False}, "is_causal=False"),
        ({"sliding_window": 2}, "sliding_window=2 over 3 slots"),
    ],
)
def test_what_is_not_done_is_refused(asked, message):
    settings = {"layout": layout(2, 3), "attention_mask": None, **asked}
    with pytest.raises(RecipeError, match=message):
        _attend(nn.Identity(), *tensors(), **settings)


def test_a_window_that_no_sample_outgrows_passes():
    inputs = tensors()
    windowed, _ = _attend(nn.Identity(), *inputs, None, sliding_window=3, softcap=None, layout=layout(2, 3))
    plain, _ = _attend(nn.Identity(), *inputs, None, layout=layout(2, 3))
    assert torch.equal(windowed, plain)
