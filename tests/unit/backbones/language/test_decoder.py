import pytest
import torch

from perceptio.backbones.language.decoder import DecoderConfig, RotaryPositions
from perceptio.errors import RecipeError
from perceptio.interfaces import SequenceLayout, text_positions


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return (
        DecoderConfig(words=("point",), hidden_dim=32, num_layers=2, num_heads=4, num_kv_heads=2)
        .build()
        .double()
    )


def hidden(decoder, inputs, positions=None, looks=None):
    positions = text_positions(0, inputs.shape[1], 3) if positions is None else positions
    return decoder(inputs, SequenceLayout.packed(positions, (inputs.shape[1],), looks))


def test_a_slot_sees_nothing_after_it(decoder):
    inputs = torch.randn(1, 6, 32, dtype=torch.float64)
    changed = inputs.clone()
    changed[:, 4:] += 1.0
    before, after = hidden(decoder, inputs), hidden(decoder, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().max() > 0.1


def test_positions_are_relative_on_every_axis(decoder):
    inputs, places = torch.randn(1, 5, 32, dtype=torch.float64), torch.rand(3, 5) * 10
    moved = places + torch.tensor([[7.0], [-2.0], [3.0]])
    torch.testing.assert_close(
        hidden(decoder, inputs, places), hidden(decoder, inputs, moved), rtol=1e-4, atol=1e-4
    )
    turned = hidden(decoder, inputs, places[[1, 0, 2]])
    assert (turned - hidden(decoder, inputs, places)).abs().max() > 1e-3


def test_a_query_may_look_from_elsewhere(decoder):
    inputs, places = torch.randn(1, 5, 32, dtype=torch.float64), torch.rand(3, 5) * 10
    same = hidden(decoder, inputs, places, places)
    torch.testing.assert_close(same, hidden(decoder, inputs, places))
    assert (hidden(decoder, inputs, places, places + 1.0) - same).abs().max() > 1e-3


def test_axes_take_turns_and_have_the_same_frequencies():
    rotary = RotaryPositions(head_dim=12, axes=3, base=100.0, fastest=2.0)
    assert rotary.axis_F.tolist() == [0, 1, 2, 0, 1, 2]
    torch.testing.assert_close(rotary.frequency_F, torch.tensor([2.0, 2.0, 2.0, 0.2, 0.2, 0.2]))


def test_one_axis_has_the_frequencies_of_language_models():
    rotary = RotaryPositions(head_dim=8, axes=1, base=10_000.0)
    torch.testing.assert_close(rotary.frequency_F, torch.tensor([1.0, 0.1, 0.01, 0.001]))


def test_the_cache_gives_what_one_pass_gives(decoder):
    inputs = torch.randn(2, 7, 32, dtype=torch.float64)
    positions = text_positions(0, 7, 3)
    whole = torch.cat([hidden(decoder, row[None], positions) for row in inputs])
    cache, start, pieces = decoder.new_cache(2, 7), 0, []
    for count in (3, 1, 3):
        past = torch.full((2,), start)
        at = positions[:, None, start : start + count].expand(-1, 2, -1)
        layout = SequenceLayout.cached(at, past, max_keys=start + count)
        pieces.append(decoder(inputs[:, start : start + count], layout, cache))
        start += count
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


def test_new_vocabulary_rows_differ_and_old_ones_stay(decoder):
    old = decoder.embedding.weight.detach().clone()
    decoder.resize_vocabulary(len(old) + 5)
    assert torch.equal(decoder.embedding.weight[: len(old)], old)
    assert torch.pdist(decoder.embedding.weight[len(old) :]).min() > 0.3
    rows = torch.randn(2, 32)
    decoder.initialize_rows(torch.tensor([len(old), len(old) + 1]), rows)
    torch.testing.assert_close(decoder.embed(torch.tensor([len(old)])), rows[:1].double())


def test_parameter_groups_are_a_partition(decoder):
    groups = decoder.parameter_groups()
    assert sum(len(group) for group in groups.values()) == len(list(decoder.parameters()))
    assert [p.shape[0] for p in groups["vocabulary"]] == [decoder.spec.vocab_size]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 3, "num_kv_heads": 2}, "a multiple of num_kv_heads"),
        ({"num_heads": 0}, "num_heads is 0; it must be at least 1"),
        ({"feed_forward_dim": 0}, "feed_forward_dim is 0"),
        ({"hidden_dim": 36}, "multiple of twice num_heads"),
        ({"position_axes": 2}, "1 .time. or 3"),
        ({"rope_fastest": 0.0}, "rope_fastest .0.0. above 0"),
        ({"rope_base": 1.0}, "rope_base .1.0. must be above 1"),
    ],
)
def test_widths_that_cannot_be_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        DecoderConfig(**settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_halves_of_a_head_are_rotated_against_each_other(dtype):
    torch.manual_seed(0)
    angles_TF = torch.arange(5.0)[:, None] * RotaryPositions(8, 1, 100.0).frequency_F
    rotation = RotaryPositions(8, 1, 100.0)(torch.arange(5.0)[None, None])
    x_BTQE, gradient = (
        torch.randn(1, 5, 2, 8, dtype=dtype, requires_grad=True),
        torch.randn(1, 5, 2, 8, dtype=dtype),
    )
    first, second = x_BTQE.chunk(2, -1)
    cos, sin = (x.to(dtype)[None, :, None] for x in (angles_TF.cos(), angles_TF.sin()))
    wanted = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    made = rotation(x_BTQE)
    pairs = [torch.autograd.grad(y, x_BTQE, gradient)[0] for y in (made, wanted)]
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 0.04}[dtype]
    assert made.dtype == dtype
    torch.testing.assert_close(made, wanted, rtol=0, atol=tolerance)
    torch.testing.assert_close(*pairs, rtol=0, atol=tolerance)
