"""Coarse to fine: residuals by hand, and what each scale adds."""

import attrs
import pytest
import torch

from perceptio.errors import RecipeError
from perceptio.tokenizers._autoencoder import VectorQuantizer
from perceptio.tokenizers.depth.next_scale import MultiScaleQuantizer, NextScaleDepthConfig

CONFIG = NextScaleDepthConfig(
    codebook_size=12,
    grid=(4, 4),
    coarser=((1, 1), (2, 2)),
    image_size=(16, 16),
    widths=(8, 16),
    residual_blocks=1,
    latent_dim=5,
)


def quantizer(codebook_KC, scales=((1, 1), (2, 2))):
    held = torch.tensor(codebook_KC)
    vq = VectorQuantizer(*held.shape, decay=0.9, commitment_weight=0.25, dead_code_threshold=0.0)
    vq.vq.codebook = held
    return MultiScaleQuantizer(vq, scales).eval()


def test_residuals_by_hand():
    """Latents 3 3 / 3 5: their mean 3.5 is nearest to 4, and -1 -1 / -1 1 is left for the finer scale."""
    multi = quantizer([[0.0], [4.0], [-1.0], [1.0]])
    latents_BLC = torch.tensor([[[3.0], [3.0], [3.0], [5.0]]])
    codes_BL = multi.nearest(latents_BLC)
    assert codes_BL.tolist() == [[1, 2, 2, 2, 3]]
    quantized_BLC, same_BL, commitment = multi(latents_BLC)
    assert torch.equal(same_BL, codes_BL) and torch.equal(quantized_BLC, latents_BLC)
    assert commitment.item() == 0.0
    assert multi.latents_of(multi.codebook_KC[codes_BL]).flatten().tolist() == [3.0, 3.0, 3.0, 5.0]


def test_commitment_is_the_distance_to_the_sum_of_all_scales():
    multi = quantizer([[0.0], [4.0]])
    latents_BLC = torch.tensor([[[4.0], [4.0], [4.0], [5.0]]], requires_grad=True)
    quantized_BLC, codes_BL, commitment = multi(latents_BLC)
    assert codes_BL.tolist() == [[1, 0, 0, 0, 0]]
    assert commitment.item() == pytest.approx(0.25 * 1 / 4)
    quantized_BLC.sum().backward()
    assert latents_BLC.grad.flatten().tolist() == [1.0] * 4  # Straight through.


def test_the_stream_is_written_a_scale_after_the_other():
    written = CONFIG.spec.stream.written
    assert [group.length for group in written.groups] == [1, 4, 16] and written.codebook_sizes == (12,)
    assert CONFIG.spec.num_codes == 21 and written.grid is None
    assert written.groups[0].centers == ((0.5, 0.5),)


def test_each_scale_brings_the_latents_nearer():
    """With a codebook that has 0, no scale makes things worse on average."""
    torch.manual_seed(0)
    scales = ((1, 1), (2, 2), (4, 4))
    multi = quantizer(torch.cat([torch.zeros(1, 3), torch.randn(60, 3)]).tolist(), scales)
    latents_BLC = torch.randn(50, 16, 3) * 0.3 + torch.randn(50, 1, 3)
    vectors_BLC = multi.codebook_KC[multi.nearest(latents_BLC)]
    errors, spoken = [], torch.zeros_like(vectors_BLC)
    for first, last in ((0, 0), (0, 1), (1, 5), (5, 21)):
        spoken[:, first:last] = vectors_BLC[:, first:last]
        errors.append(float((multi.latents_of(spoken) - latents_BLC).square().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.3 * errors[0]


def test_the_codebook_starts_from_the_residuals_of_every_scale():
    torch.manual_seed(0)
    tokenizer = CONFIG.build().train()
    assert not tokenizer.quantizer.quantizer.started
    before = tokenizer.codebook_KC.clone()
    made = tokenizer.reconstruct(torch.rand(16, 1, 16, 16))
    assert tokenizer.quantizer.quantizer.started and not torch.equal(tokenizer.codebook_KC, before)
    assert made.codes_TL.shape == (16, 21) and len(made.codes_TL.unique()) > 4


def test_training_lets_every_scale_say_something():
    """Slopes and steps of any height: after a few steps, codes of all scales differ between maps."""
    torch.manual_seed(0)
    tokenizer = CONFIG.build().train()
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    ramp_H = torch.linspace(0, 1, 16)
    maps_B1HW = (torch.rand(32, 1, 1, 1) * ramp_H[:, None] + torch.rand(32, 1, 1, 1) * ramp_H) / 2
    errors = []
    for step in range(150):
        made = tokenizer.reconstruct(maps_B1HW, quantize=step > 60)
        error = (made.values - maps_B1HW).abs().mean()
        (error + made.auxiliary_loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        errors.append(error.item())
    tokenizer.freeze()
    codes_BL = tokenizer.encode(maps_B1HW)
    decoded_B1HW = tokenizer.decode(codes_BL)
    assert float((decoded_B1HW - maps_B1HW).abs().mean()) < 0.03 < errors[0]
    assert all(len(codes.unique(dim=0)) > 1 for codes in codes_BL.split([1, 4, 16], 1))


def test_a_code_means_the_map_that_it_makes_alone():
    torch.manual_seed(0)
    tokenizer = CONFIG.build().eval()
    (meaning,) = tokenizer.code_meanings()
    vectors_KLC = torch.zeros(12, 21, 5)
    vectors_KLC[:, 0] = tokenizer.codebook_KC
    alone_K1HW = tokenizer.decode_latents(tokenizer.latent_grid(vectors_KLC)).clamp(0, 1)
    torch.testing.assert_close(meaning.values_KV[:, 0], alone_K1HW.mean((1, 2, 3)))
    assert torch.equal(meaning.vectors_KC, tokenizer.codebook_KC)


@pytest.mark.parametrize("coarser", [((4, 4),), ((2, 2), (1, 1)), ((0, 1),), ((8, 1),)])
def test_scales_that_do_not_grow_are_refused(coarser):
    with pytest.raises(
        RecipeError, match="next_scale: the scales .* must grow from one to the next, up to the grid"
    ):
        attrs.evolve(CONFIG, coarser=coarser)
