"""Soft merging: what is compared, and where gradients go."""

import attrs
import pytest
import torch
from fakes import FakeDepthConfig
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import PerceptionOutput
from perceptio.losses.depth_reconstruction import DepthReconstructionConfig
from perceptio.testing.component import MODEL
from perceptio.testing.loss import LossConformance
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig

BATCH = type("Made", (LossConformance,), {"config": DepthReconstructionConfig()})().batch()
# Wide enough to have a living ReLU in every cell: of random decoders 4 channels wide, one in thirty is constant.
TOKENIZER = VQVAEDepthConfig(
    codebook_size=8, grid=(2, 2), image_size=(16, 16), widths=(16, 16, 16), residual_blocks=1, latent_dim=4
)


def value(depth_S1HW, batch=BATCH, **settings):
    loss = DepthReconstructionConfig(**settings).build(MODEL)
    return loss(PerceptionOutput(soft_depth_S1HW=depth_S1HW), batch)


def test_the_truth_costs_nothing_and_a_shift_costs_itself():
    truth = BATCH.depth_B1HW[BATCH.block_image_S]
    assert value(truth).total.item() == 0.0
    shifted = value(truth + 0.25, beta=0.05)
    assert shifted.total.item() / shifted.count == pytest.approx(0.25 - 0.05 / 2)  # Slopes agree.
    assert shifted.metrics["depth_error"].item() / shifted.count == pytest.approx(0.25)


def test_slopes_are_compared_between_neighbors():
    truth = torch.zeros(2, 1, 1, 3)
    batch = attrs.evolve(BATCH, depth_B1HW=truth)
    predicted = torch.tensor([0.0, 1.0, 1.0]).expand(2, 1, 1, 3)
    flat = value(predicted, batch, beta=0.0, slope_weight=0.0)
    sloped = value(predicted, batch, beta=0.0, slope_weight=1.0)
    assert (sloped.total - flat.total).item() == pytest.approx(
        2 * 0.5
    )  # One of two steps differs by 1, in each block.


def test_unknown_pixels_count_for_nothing():
    holed = BATCH.depth_B1HW.clone()
    holed[:, :, :8] = float("nan")
    batch = attrs.evolve(BATCH, depth_B1HW=holed)
    predicted = BATCH.depth_B1HW[BATCH.block_image_S].clone()
    predicted[:, :, :8] += 5.0
    predicted.requires_grad_()
    loss = value(predicted, batch)
    assert loss.total.item() == pytest.approx(0.0, abs=1e-6)
    loss.total.backward()
    assert predicted.grad.isfinite().all() and not predicted.grad[:, :, :8].any()
    holed[0] = float("nan")
    assert value(predicted, attrs.evolve(BATCH, depth_B1HW=holed)).count == 1


def test_certain_probabilities_decode_like_their_codes():
    tokenizer = TOKENIZER.build().eval()
    codes_SL = BATCH.block_codes_SL
    soft = tokenizer.soft_decode(F.one_hot(codes_SL, 8).float())
    torch.testing.assert_close(soft, tokenizer.decode(codes_SL), rtol=1e-5, atol=1e-6)


def test_even_probabilities_decode_the_mean_of_the_codebook():
    tokenizer = TOKENIZER.build().eval()
    mean_1C = tokenizer.codebook_KC.mean(0, keepdim=True)
    merged = tokenizer.decode_latents(mean_1C[:, :, None, None].expand(-1, -1, 2, 2)).clamp(0, 1)
    even = torch.full((1, 4, 8), 1 / 8)
    torch.testing.assert_close(tokenizer.soft_decode(even), merged, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", [TOKENIZER, FakeDepthConfig()], ids=lambda config: config.name)
def test_gradients_reach_the_logits_and_neither_codebook_nor_decoder_nor_target(config):
    tokenizer = config.build()
    if hasattr(tokenizer, "freeze"):
        tokenizer.freeze()
    spec = config.spec
    logits = torch.randn(2, spec.num_codes, spec.codebook_size).requires_grad_()
    target = torch.rand(2, 1, *spec.image_size)
    batch = attrs.evolve(BATCH, depth_B1HW=target)
    value(tokenizer.soft_decode(logits.softmax(-1)), batch).total.backward()
    assert (logits.grad.abs().amax(-1) > 0).float().mean() > 0.9
    assert all(p.grad is None for p in tokenizer.parameters())
    assert target.grad is None


def test_settings_below_zero_are_refused():
    with pytest.raises(RecipeError, match="beta -1.0 and slope_weight 0.5 must not be below 0"):
        DepthReconstructionConfig(beta=-1.0)
