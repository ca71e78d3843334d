"""The lattice: fixed, ordered, and gone over by hand."""

import pytest
import torch

from perceptio.errors import RecipeError
from perceptio.tokenizers.depth.fsq import FiniteScalarQuantizer, FSQDepthConfig


def lattice(levels=(4, 3)):
    """A quantizer without projections, so that latents are the lattice's own coordinates."""
    return FiniteScalarQuantizer(levels, len(levels))


def test_the_codebook_by_hand():
    """Four levels are -1, -0.5, 0 and 0.5, three are -1, 0 and 1; the first axis runs fastest."""
    expected = [[x, y] for y in (-1.0, 0.0, 1.0) for x in (-1.0, -0.5, 0.0, 0.5)]
    assert lattice().codebook_KC.tolist() == expected


def test_every_code_is_its_own_nearest():
    fsq = FiniteScalarQuantizer((8, 4, 4), 3)
    # A latent is squashed by tanh before it is rounded, so codes are pushed outwards to come back to themselves.
    half_K3 = (torch.tensor([8, 4, 4]) - 1) * 1.001 / 2
    scaled_KC = fsq.codebook_KC * torch.tensor([4, 2, 2]) + 0.5
    latents_KC = torch.atanh(scaled_KC / half_K3) - torch.atanh(0.5 / half_K3)
    assert fsq.nearest(latents_KC[None]).tolist() == [list(range(128))]


def test_quantized_latents_are_the_codebook_s_rows():
    torch.manual_seed(0)
    fsq = FiniteScalarQuantizer((4, 3), 5)
    quantized_BLC, codes_BL, auxiliary = fsq(3 * torch.randn(2, 7, 5))
    assert codes_BL.dtype == torch.int64 and len(codes_BL.unique()) > 3
    torch.testing.assert_close(quantized_BLC, fsq.codebook_KC[codes_BL], rtol=0, atol=1e-6)
    assert float(auxiliary) == 0.0


def test_rounding_lets_the_gradient_through():
    latents = torch.tensor([[[0.1, -0.2]]], requires_grad=True)
    lattice()(latents)[0].sum().backward()
    assert bool((latents.grad > 0).all())


def test_the_lattice_has_nothing_that_training_moves():
    assert not dict(lattice().named_parameters())
    assert not lattice().state_dict()


def test_the_codebook_size_is_the_product_of_the_levels():
    assert FSQDepthConfig().codebook_size == 128
    assert FSQDepthConfig(levels=(8, 6, 5)).spec.codebook_size == 240


@pytest.mark.parametrize("levels", [(), (8, 2), (8, 4, 0)])
def test_levels_out_of_range_are_refused(levels):
    with pytest.raises(RecipeError, match="fsq: levels are .*: give one or more, each at least 3"):
        FSQDepthConfig(levels=levels)
