"""The learned codebook: how it starts, moves, revives codes, and when it must not move."""

import pytest
import torch
from ranks import train_quantizer
from torch import distributed

from perceptio.errors import RecipeError, TrainingError
from perceptio.tokenizers._autoencoder import quantizers
from perceptio.tokenizers._autoencoder.quantizers import VectorQuantizer
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig


def quantizer(codebook_size=4, latent_dim=2, **changes):
    settings = {"decay": 0.9, "commitment_weight": 0.25, "dead_code_threshold": 0.0}
    torch.manual_seed(0)
    return VectorQuantizer(codebook_size, latent_dim, **settings | changes)


def clusters(centers, each=25, spread=0.01, seed=0):
    """Latents [1, centers * each, C] tightly around each center."""
    random = torch.Generator().manual_seed(seed)
    points = torch.tensor(centers).repeat_interleave(each, 0)
    return (points + spread * torch.randn(points.shape, generator=random))[None]


CORNERS = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]]


def test_the_nearest_code_by_hand():
    vq = quantizer()
    vq.vq.codebook = torch.tensor(CORNERS)
    latents = torch.tensor([[[1.0, 2.0], [9.0, 1.0], [4.0, 6.0], [6.0, 6.0], [5.0, 5.0]]])
    assert vq.nearest(latents).tolist() == [[0, 1, 2, 3, 0]]  # The last is as near to all: the first wins.


def test_k_means_over_the_first_batch_finds_its_clusters():
    vq = quantizer(codebook_size=2).train()
    vq(clusters(CORNERS[1:3]))
    distances = torch.cdist(torch.tensor(CORNERS[1:3]), vq.codebook_KC).min(1).values
    assert float(distances.max()) < 0.1


def test_codes_differ_before_training():
    """Else a model built around an untrained tokenizer would decode every code alike."""
    assert len(quantizer().codebook_KC.unique(dim=0)) == 4


def test_in_train_mode_the_codebook_follows_the_latents():
    vq = quantizer(codebook_size=2).train()
    vq(clusters(CORNERS[1:3]))
    moved = torch.tensor(CORNERS[1:3]) + 1.0
    for seed in range(60):
        vq(clusters(moved.tolist(), seed=seed))
    assert float(torch.cdist(moved, vq.codebook_KC).min(1).values.max()) < 0.1


def test_in_eval_mode_the_codebook_stays():
    vq = quantizer().eval()
    before = {name: value.clone() for name, value in vq.state_dict().items()}
    vq(clusters(CORNERS))
    for name, value in vq.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("threshold", "used"), [(0.0, 1), (2.0, 4)])
def test_dead_codes_are_revived(threshold, used):
    """All latents first lie at one corner, then at four: only revived codes can reach the other three."""
    vq = quantizer(dead_code_threshold=threshold).train()
    vq(clusters(CORNERS[:1], each=100))
    vq.vq.codebook = torch.cat([torch.zeros(1, 2), torch.full((3, 2), 1e3)])
    vq.vq._codebook.cluster_size.copy_(torch.tensor([[100.0, 0.0, 0.0, 0.0]]))
    for seed in range(40):
        vq(clusters(CORNERS, seed=seed))
    assert len(vq.nearest(clusters(CORNERS)).unique()) == used


def test_commitment_pulls_latents_to_codes_and_leaves_the_codebook_without_a_gradient():
    vq = quantizer().eval()
    vq.vq.codebook = torch.tensor(CORNERS)
    latents = torch.tensor([[[1.0, 0.0]]], requires_grad=True)
    quantized, codes, commitment = vq(latents)
    assert codes.tolist() == [[0]]
    assert commitment.item() == pytest.approx(0.25 * (1 + 0) / 2)
    (3 * quantized.sum()).backward()
    assert latents.grad.tolist() == [[[3.0, 3.0]]]  # Straight through.
    assert not any(p.requires_grad for p in vq.parameters())


def test_a_quantizer_made_before_the_process_group_does_not_train_in_it(monkeypatch):
    vq = quantizer().train()
    monkeypatch.setattr(quantizers, "in_process_group", lambda: True)
    with pytest.raises(TrainingError, match="built before the process group"):
        vq(clusters(CORNERS))


@pytest.mark.skipif(not distributed.is_available(), reason="torch was built without torch.distributed")
def test_a_group_of_one_needs_no_synchronizing(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert not quantizer().synchronized
    finally:
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="torch was built without torch.distributed")
def test_two_ranks_keep_one_codebook_that_knows_the_data_of_both(tmp_path):
    halves = [clusters(CORNERS[:2]), clusters(CORNERS[2:])]
    torch.multiprocessing.spawn(train_quantizer, (halves, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(one, other)
    assert torch.cdist(torch.tensor(CORNERS), one).amin(1).max() < 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"codebook_size": 1},
        {"decay": 1.0},
        {"decay": 0.0},
        {"commitment_weight": -0.1},
        {"dead_code_threshold": -1.0},
    ],
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(
        RecipeError, match=r"vqvae: codebook_size \(.*must be at least 2, decay .* between 0 and 1"
    ):
        VQVAEDepthConfig(**change)


def test_the_defaults_are_the_paper_s_predecessor_s():
    """AURORA: 128 codes on a 10x10 grid of 320-pixel maps, 7.69 million parameters (METHOD of AiT)."""
    config = VQVAEDepthConfig()
    assert (config.spec.codebook_size, config.spec.num_codes, config.image_size) == (128, 100, (320, 320))
    parameters = sum(p.numel() for p in config.build().parameters())
    assert parameters == pytest.approx(7.69e6, rel=0.01)
