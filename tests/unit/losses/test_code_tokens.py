"""The identities that the losses of codes are made of, in float64."""

import math

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import BATCH, batch_with, model_with, output
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import CodeGroup, TokenBlock, TokenSpan
from perceptio.losses.code_tokens import CountConfig, ExpectedCountConfig, MarkerConfig, TokenConfig
from perceptio.testing.component import BLOCK, MODEL
from perceptio.testing.loss import VOCABULARY

MARKER, TOKEN, COUNT, EXPECTED = (
    config(stream="depth") for config in (MarkerConfig, TokenConfig, CountConfig, ExpectedCountConfig)
)
CODES_NL = BATCH.streams["depth"].codes_NL
BLOCKS, LENGTH = CODES_NL.shape
SIZE = BLOCK.codebooks[0].size
START = BLOCK.codebooks[0].start
COARSE_TO_FINE = TokenBlock(
    opening=20,
    closing=21,
    codebooks=(TokenSpan(start=22, size=3), TokenSpan(start=25, size=5)),
    groups=(CodeGroup.on_grid((1, 1)), CodeGroup.on_grid((1, 3), codebook=1)),
    steps=(1, 1, 1, 1),
)
"""One code out of three, then three out of five."""


def value(config, logits_NXV, codes_NL=CODES_NL, block=BLOCK):
    loss = config.build(model_with("depth", tokens=block))
    return loss(output("depth", logits_NXV=logits_NXV), batch_with("depth", codes_NL=codes_NL))


def random_logits(seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (BLOCKS, LENGTH + 2, VOCABULARY)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def sure_logits():
    """Certain of every marker and every code."""
    targets = F.pad(CODES_NL + START, (1, 1))
    targets[:, 0], targets[:, -1] = BLOCK.opening, BLOCK.closing
    return 100.0 * F.one_hot(targets, VOCABULARY).double(), targets


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.0, 20.0))
def test_the_three_terms_add_up_to_plain_cross_entropy(seed, scale):
    logits = random_logits(seed, scale)
    _, targets = sure_logits()
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    terms = [value(config, logits) for config in (MARKER, TOKEN, COUNT)]
    torch.testing.assert_close(sum(term.total for term in terms), plain, rtol=1e-10, atol=1e-8)
    # The same in means: 2 * marker + N * token + N * count, per block.
    marker, token, count = (term.total / term.count for term in terms)
    torch.testing.assert_close(BLOCKS * (2 * marker + LENGTH * (token + count)), plain, rtol=1e-10, atol=1e-8)


def test_uniform_logits_cost_the_logarithm_of_the_choices():
    zeros = torch.zeros_like(random_logits())
    token, marker, count = (value(c, zeros) for c in (TOKEN, MARKER, COUNT))
    assert token.total.item() / token.count == pytest.approx(math.log(SIZE))
    assert marker.total.item() / marker.count == pytest.approx(math.log(VOCABULARY))
    assert count.total.item() / count.count == pytest.approx(math.log(VOCABULARY / SIZE))


def test_certainty_costs_nothing():
    logits, _ = sure_logits()
    for config in (TOKEN, MARKER, COUNT, EXPECTED):
        assert value(config, logits).total.item() == pytest.approx(0.0, abs=1e-8)
    assert value(TOKEN, logits).metrics["code_accuracy"] == BLOCKS * LENGTH
    assert value(MARKER, logits).metrics["marker_accuracy"] == 2 * BLOCKS


def test_the_expected_count_counts():
    logits, _ = sure_logits()
    logits[0, -1] = 0.0
    logits[0, -1, START] = 100.0  # One code too many in the first block.
    logits[1, 1] = 0.0
    logits[1, 1, 0] = 100.0  # One too few in the second.
    loss = value(EXPECTED, logits)
    assert loss.metrics["count_error"].item() == pytest.approx(2.0)
    assert loss.total.item() == pytest.approx(2 * 0.5 * (1 / LENGTH) ** 2)


def test_gradients_stay_where_the_mass_is_lost():
    logits = random_logits().requires_grad_()
    value(COUNT, logits).total.backward()
    assert logits.grad[:, 1:-1].abs().min() > 0
    assert not logits.grad[:, [0, -1]].any()


def test_codes_are_chosen_among_those_of_their_own_codebook():
    codes_NL = torch.tensor([[2, 0, 4, 1], [0, 3, 3, 2]])
    starts_L = torch.tensor([22, 25, 25, 25])
    logits = random_logits()
    token, count, expected = (
        value(config, logits, codes_NL, COARSE_TO_FINE) for config in (TOKEN, COUNT, EXPECTED)
    )
    inner = logits[:, 1:-1]
    plain = F.cross_entropy(inner.flatten(0, 1), (codes_NL + starts_L).flatten(), reduction="sum")
    torch.testing.assert_close(token.total + count.total, plain)

    probabilities = inner.softmax(-1)
    mass = torch.cat([probabilities[:, :1, 22:25].sum(-1), probabilities[:, 1:, 25:30].sum(-1)], 1)
    torch.testing.assert_close(count.metrics["code_mass"], mass.sum())
    of_any = logits[:, 1:].softmax(-1)[..., 22:30].sum((-1, -2))
    torch.testing.assert_close(expected.metrics["count_error"], (of_any - LENGTH).abs().sum())

    sure = 100.0 * F.one_hot(codes_NL + starts_L, VOCABULARY).double()
    sure = F.pad(sure, (0, 0, 1, 1))
    assert value(TOKEN, sure, codes_NL, COARSE_TO_FINE).metrics["code_accuracy"] == BLOCKS * LENGTH


def test_a_batch_that_writes_nothing_of_the_stream_has_no_items():
    without = attrs.evolve(BATCH, streams={})
    assert [config.build(MODEL).count(without) for config in (MARKER, TOKEN, COUNT, EXPECTED)] == [0] * 4


@pytest.mark.parametrize("config", [MARKER, TOKEN, COUNT, EXPECTED])
def test_a_stream_that_is_not_there_or_has_no_codes_is_refused(config):
    with pytest.raises(
        RecipeError, match=f"the loss {config.name} is about the stream 'dept', which the recipe has not; did"
    ):
        attrs.evolve(config, stream="dept").build(MODEL)
    with pytest.raises(
        RecipeError,
        match=f"the loss {config.name} is about codes, and the stream 'edges' is written as special tokens",
    ):
        attrs.evolve(config, stream="edges").build(MODEL)


def test_terms_are_called_by_stream_and_loss():
    assert (MARKER.term, attrs.evolve(TOKEN, stream="edges").term) == ("depth_marker", "edges_token")


def test_the_expected_count_is_for_one_code_a_step():
    block = attrs.evolve(BLOCK, steps=(2, 2))
    with pytest.raises(
        RecipeError, match="one code per step, and the stream 'depth' is written up to 2 at once"
    ):
        EXPECTED.build(model_with("depth", tokens=block))


def test_label_smoothing_lies_in_a_range():
    with pytest.raises(RecipeError, match=r"depth_token: label_smoothing is 1.0; choose one in \[0, 1\)"):
        TokenConfig(stream="depth", label_smoothing=1.0)
