"""Soft merging: what is compared, and where gradients go."""

import pytest
import torch
from fakes import FakeDepthConfig
from made_up import BATCH, batch_with, output
from torch.nn import functional as F

from perceptio.errors import InterfaceError, RecipeError
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig
from perceptio.testing.component import MODEL
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig

STREAM = BATCH.streams["depth"]
TRUTH = STREAM.targets
# Wide enough to have a living ReLU in every cell: of random decoders 4 channels wide, one in thirty is constant.
TOKENIZER = VQVAEDepthConfig(
    codebook_size=8, grid=(2, 2), image_size=(16, 16), widths=(16, 16, 16), residual_blocks=1, latent_dim=4
)


def value(soft, batch=BATCH, **settings):
    loss = SoftReconstructionConfig(stream="depth", **settings).build(MODEL)
    return loss(output("depth", soft=soft), batch)


def test_the_truth_costs_nothing_and_a_shift_costs_itself():
    assert value(TRUTH).total.item() == 0.0
    shifted = value(TRUTH + 0.25, beta=0.05)
    assert shifted.total.item() / shifted.count == pytest.approx(0.25 - 0.05 / 2)  # Slopes agree.
    assert shifted.metrics["absolute_error"].item() / shifted.count == pytest.approx(0.25)


def test_slopes_are_compared_between_neighbors():
    batch = batch_with("depth", targets=torch.zeros(2, 1, 1, 3))
    predicted = torch.tensor([0.0, 1.0, 1.0]).expand(2, 1, 1, 3)
    flat = value(predicted, batch, beta=0.0, slope_weight=0.0)
    sloped = value(predicted, batch, beta=0.0, slope_weight=1.0)
    # One of two steps differs by 1, in each block.
    assert (sloped.total - flat.total).item() == pytest.approx(2 * 0.5)


def test_every_block_has_its_own_target_and_unknown_pixels_count_for_nothing():
    holed = TRUTH.clone()
    holed[:, :, :8] = float("nan")
    batch = batch_with("depth", targets=holed, target_N=torch.tensor([1, 0]))
    predicted = TRUTH.flip(0)
    predicted[:, :, :8] += 5.0
    predicted.requires_grad_()
    loss = value(predicted, batch)
    assert loss.total.item() == pytest.approx(0.0, abs=1e-6)
    loss.total.backward()
    assert predicted.grad.isfinite().all() and not predicted.grad[:, :, :8].any()


def test_blocks_of_images_without_a_map_are_not_counted():
    holed = TRUTH.clone()
    holed[1] = float("nan")
    batch = batch_with("depth", targets=holed, known=(True, False))
    loss = value(TRUTH + 0.25, batch)
    assert (loss.count, loss.metrics["absolute_error"].item()) == (1, pytest.approx(0.25))


def test_maps_may_have_several_channels():
    truth = torch.rand(2, 3, 4, 4)
    loss = value(truth + 0.5, batch_with("depth", targets=truth), beta=0.0)
    assert loss.total.item() / loss.count == pytest.approx(0.5)


@pytest.mark.parametrize("soft", [torch.zeros(2, 1, 1, 1), "a map"])
def test_what_is_no_map_of_that_size_is_refused(soft):
    with pytest.raises(InterfaceError, match="SoftReconstruction compares tensors of one shape"):
        value(soft)


def test_certain_probabilities_decode_like_their_codes():
    tokenizer = TOKENIZER.build().eval()
    soft = tokenizer.soft_decode(F.one_hot(STREAM.codes_NL, 8).float())
    torch.testing.assert_close(soft, tokenizer.decode(STREAM.codes_NL), rtol=1e-5, atol=1e-6)


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
    batch = batch_with("depth", targets=target)
    value(tokenizer.soft_decode(logits.softmax(-1)), batch).total.backward()
    assert (logits.grad.abs().amax(-1) > 0).float().mean() > 0.9
    assert all(p.grad is None for p in tokenizer.parameters())
    assert target.grad is None


def test_settings_below_zero_are_refused():
    with pytest.raises(
        RecipeError, match="depth_soft_reconstruction: beta -1.0 and slope_weight 0.5 must not"
    ):
        SoftReconstructionConfig(stream="depth", beta=-1.0)


def test_a_stream_without_codes_is_refused():
    with pytest.raises(
        RecipeError, match="the loss soft_reconstruction is about codes, and the stream 'edges'"
    ):
        SoftReconstructionConfig(stream="edges").build(MODEL)
