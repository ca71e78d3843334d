"""The lattice: fixed, ordered, and gone over by hand; and where its axes start."""

import pytest
import torch

from perceptio.errors import RecipeError
from perceptio.tokenizers._autoencoder import quantizers
from perceptio.tokenizers._autoencoder.quantizers import START_SPREAD, FiniteScalarQuantizer
from perceptio.tokenizers.depth.fsq import FSQDepthConfig


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


def test_the_lattice_itself_has_nothing_that_training_moves():
    fsq = lattice().train()
    fsq(torch.randn(1, 9, 2))
    assert not dict(fsq.named_parameters())
    assert fsq.codebook_KC.tolist() == lattice().codebook_KC.tolist()


def elongated(count=4000):
    """Latents [1, count, 3] around (5, 5, 5): 100 wide along y, 1 along x, all but flat along z."""
    random = torch.Generator().manual_seed(0)
    return 5 + torch.randn(1, count, 3, generator=random) * torch.tensor([1.0, 100.0, 1e-3])


def test_axes_start_along_the_widest_directions_the_widest_with_most_levels():
    fsq = FiniteScalarQuantizer((3, 8), 3).train()
    fsq(elongated())
    into_AC, out_CA = fsq.fsq.project_in.weight, fsq.fsq.project_out.weight
    assert into_AC.abs().argmax(1).tolist() == [0, 1]  # x for the three levels, y for the eight.
    torch.testing.assert_close(into_AC @ out_CA, torch.eye(2), rtol=0, atol=1e-4)
    projected = fsq.fsq.project_in(elongated())[0]
    torch.testing.assert_close(projected.mean(0), torch.zeros(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(projected.std(0), torch.full((2,), START_SPREAD), rtol=0, atol=1e-3)
    assert len(fsq.nearest(elongated()).unique()) == 24  # Every code is in use from the start.


def test_axes_start_once_and_only_in_train_mode():
    fsq = FiniteScalarQuantizer((3, 8), 3)
    random = fsq.fsq.project_in.weight.clone()
    fsq.eval()(elongated())
    assert torch.equal(fsq.fsq.project_in.weight, random)
    fsq.train()(elongated())
    started = fsq.fsq.project_in.weight.clone()
    assert not torch.equal(started, random)
    fsq(7 * elongated().flip(-1))
    assert torch.equal(fsq.fsq.project_in.weight, started)
    resumed = FiniteScalarQuantizer((3, 8), 3).train()
    resumed.load_state_dict(fsq.state_dict())
    resumed(7 * elongated().flip(-1))
    assert torch.equal(resumed.fsq.project_in.weight, started)


def test_latents_that_are_all_alike_start_finite():
    fsq = FiniteScalarQuantizer((3, 8), 3).train()
    assert bool(fsq(torch.ones(1, 10, 3))[0].isfinite().all())


def test_the_codebook_size_is_the_product_of_the_levels():
    assert FSQDepthConfig().codebook_size == 128
    assert FSQDepthConfig(levels=(8, 6, 5)).spec.codebook_size == 240


@pytest.mark.parametrize("levels", [(), (8, 2), (8, 4, 0)])
def test_levels_out_of_range_are_refused(levels):
    with pytest.raises(RecipeError, match="fsq: levels are .*: give one or more, each at least 3"):
        FSQDepthConfig(levels=levels)


def test_ranks_start_as_the_first_does(monkeypatch):
    sent = []
    monkeypatch.setattr(quantizers, "in_process_group", lambda: True)
    monkeypatch.setattr(
        quantizers.distributed, "broadcast", lambda tensor, source: sent.append((tensor, source))
    )
    fsq = FiniteScalarQuantizer((3, 8), 3).train()
    fsq(elongated())
    assert [source for _, source in sent] == [0, 0, 0, 0]
    assert all(one is other for (one, _), other in zip(sent, fsq.parameters(), strict=True))
