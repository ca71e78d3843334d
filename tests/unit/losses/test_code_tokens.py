"""The identities that the depth-token losses are made of, in float64."""

import math

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import PerceptionOutput, TokenBlock, TokenSpan
from perceptio.losses.depth_tokens import (
    DepthCountConfig,
    DepthMarkerConfig,
    DepthTokenConfig,
    ExpectedCountConfig,
)
from perceptio.testing.component import BLOCK, MODEL
from perceptio.testing.loss import VOCABULARY, LossConformance

BATCH = type("Made", (LossConformance,), {"config": DepthTokenConfig()})().batch()
CODES_SL = BATCH.block_codes_SL
BLOCKS, LENGTH = CODES_SL.shape


def value(config, logits_SNV, batch=BATCH, block=BLOCK):
    return config.build(attrs.evolve(MODEL, depth_block=block))(
        PerceptionOutput(depth_logits_SNV=logits_SNV), batch
    )


def random_logits(seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (BLOCKS, LENGTH + 2, VOCABULARY)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def sure_logits():
    """Certain of every marker and every code."""
    targets = F.pad(CODES_SL + BLOCK.codes.start, (1, 1))
    targets[:, 0], targets[:, -1] = BLOCK.opening, BLOCK.closing
    return 100.0 * F.one_hot(targets, VOCABULARY).double(), targets


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.0, 20.0))
def test_the_three_terms_add_up_to_plain_cross_entropy(seed, scale):
    logits = random_logits(seed, scale)
    _, targets = sure_logits()
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    terms = [
        value(config, logits) for config in (DepthMarkerConfig(), DepthTokenConfig(), DepthCountConfig())
    ]
    torch.testing.assert_close(sum(term.total for term in terms), plain, rtol=1e-10, atol=1e-8)
    # The same in means: 2 * marker + N * token + N * count, per block.
    marker, token, count = (term.total / term.count for term in terms)
    torch.testing.assert_close(BLOCKS * (2 * marker + LENGTH * (token + count)), plain, rtol=1e-10, atol=1e-8)


def test_uniform_logits_cost_the_logarithm_of_the_choices():
    zeros = torch.zeros_like(random_logits())
    token, marker, count = (
        value(c, zeros) for c in (DepthTokenConfig(), DepthMarkerConfig(), DepthCountConfig())
    )
    assert token.total.item() / token.count == pytest.approx(math.log(BLOCK.codes.size))
    assert marker.total.item() / marker.count == pytest.approx(math.log(VOCABULARY))
    assert count.total.item() / count.count == pytest.approx(math.log(VOCABULARY / BLOCK.codes.size))


def test_certainty_costs_nothing():
    logits, _ = sure_logits()
    for config in (DepthTokenConfig(), DepthMarkerConfig(), DepthCountConfig(), ExpectedCountConfig()):
        assert value(config, logits).total.item() == pytest.approx(0.0, abs=1e-8)
    assert value(DepthTokenConfig(), logits).metrics["code_accuracy"] == BLOCKS * LENGTH
    assert value(DepthMarkerConfig(), logits).metrics["marker_accuracy"] == 2 * BLOCKS


def test_the_expected_count_counts():
    logits, _ = sure_logits()
    logits[0, -1] = 0.0
    logits[0, -1, BLOCK.codes.start] = 100.0  # One code too many in the first block.
    logits[1, 1] = 0.0
    logits[1, 1, 0] = 100.0  # One too few in the second.
    loss = value(ExpectedCountConfig(), logits)
    assert loss.metrics["count_error"].item() == pytest.approx(2.0)
    assert loss.total.item() == pytest.approx(2 * 0.5 * (1 / LENGTH) ** 2)


def test_gradients_stay_where_the_mass_is_lost():
    logits = random_logits().requires_grad_()
    value(DepthCountConfig(), logits).total.backward()
    assert logits.grad[:, 1:-1].abs().min() > 0
    assert not logits.grad[:, [0, -1]].any()


@pytest.mark.parametrize(
    "config", [DepthMarkerConfig(), DepthTokenConfig(), DepthCountConfig(), ExpectedCountConfig()]
)
def test_a_recipe_without_depth_is_told(config):
    with pytest.raises(RecipeError, match=f"The loss {config.name} needs a depth tokenizer"):
        config.build(attrs.evolve(MODEL, depth=None, depth_block=None))


def test_the_expected_count_is_for_one_code_a_step():
    block = TokenBlock(opening=0, closing=1, codes=TokenSpan(start=2, size=4), length=4, per_step=2)
    with pytest.raises(RecipeError, match="one code per step, and this recipe writes 2"):
        ExpectedCountConfig().build(attrs.evolve(MODEL, depth_block=block))


def test_label_smoothing_lies_in_a_range():
    with pytest.raises(RecipeError, match=r"label_smoothing is 1.0; choose one in \[0, 1\)"):
        DepthTokenConfig(label_smoothing=1.0)
