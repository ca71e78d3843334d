"""AURORA's VQ-VAE, written here independently with its own names, against the tokenizer it becomes."""

import sys

import pytest
import torch
from torch import nn

import perceptio
from perceptio.cli import main as command
from perceptio.convert.aurora import convert_aurora_vqvae
from perceptio.errors import CheckpointError
from perceptio.interfaces import DepthConvention
from perceptio.model.perception_model import load


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x):
        return self.net(x) + x


class Codebook(nn.Module):
    def __init__(self, codes, latent):
        super().__init__()
        self.register_buffer("_embedding", torch.randn(codes, latent))
        self.register_buffer("_ema_cluster_size", torch.rand(codes))
        self.register_buffer("_ema_w", torch.randn(codes, latent))


class Theirs(nn.Module):
    """The network as METHOD's section 1.2 describes it: each width halves the resolution."""

    def __init__(self, first=16, levels=5, blocks=2, latent=512, codes=128):
        super().__init__()
        widths = [first * 2**level for level in range(levels)]
        down, up = [], [nn.Conv2d(latent, widths[-1], 1), nn.ReLU()]
        for before, after in zip([1, *widths[:-1]], widths, strict=True):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        down += [Residual(widths[-1]) for _ in range(blocks)]
        up += [Residual(widths[-1]) for _ in range(blocks)]
        for before, after in zip([widths[-1], *widths[:0:-1]], widths[::-1], strict=True):
            up += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], latent, 1))
        self.decoder = nn.Sequential(*up, nn.Conv2d(widths[0], 1, 1))
        self._vq_vae = Codebook(codes, latent)

    @torch.no_grad()
    def codes(self, unit_B1HW):
        latents_BhwC = self.encoder((unit_B1HW - 0.5) / 0.5).permute(0, 2, 3, 1)
        distances = torch.cdist(latents_BhwC.flatten(1, 2).double(), self._vq_vae._embedding.double())
        return distances.argmin(-1)

    @torch.no_grad()
    def maps(self, codes_BL):
        latents_BChw = self._vq_vae._embedding[codes_BL].unflatten(1, (10, 10)).permute(0, 3, 1, 2)
        return (0.5 * self.decoder(latents_BChw) + 0.5).clamp(0, 1)


def random(seed=0, **sizes):
    """Random weights whose latents spread over the codes and whose maps over the range."""
    torch.manual_seed(seed)
    theirs = Theirs(**sizes).eval()
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.normal_(module.bias, std=0.3)
        latents = theirs.encoder(2 * maps(4, theirs.encoder) - 1).permute(0, 2, 3, 1).flatten(0, 2)
        count = len(theirs._vq_vae._embedding)
        theirs._vq_vae._embedding.copy_(
            latents[torch.randperm(len(latents))[:count]] + 0.1 * torch.randn(count, 1)
        )
    return theirs


def maps(count, encoder):
    side = 10 * 2 ** sum(isinstance(layer, nn.Conv2d) and layer.stride == (2, 2) for layer in encoder)
    coarse = torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    return nn.functional.interpolate(coarse, (side, side), mode="bilinear").clamp(0, 1)


SMALL = {"first": 4, "levels": 3, "blocks": 1, "latent": 6, "codes": 32}


@pytest.fixture(scope="module")
def small():
    return random(**SMALL)


def assert_equal(tokenizer, theirs):
    unit_B1HW = maps(2, theirs.encoder)
    codes_BL = tokenizer.encode(unit_B1HW)
    assert torch.equal(codes_BL, theirs.codes(unit_B1HW)) and len(codes_BL.unique()) > 8
    made_B1HW, expected_B1HW = tokenizer.decode(codes_BL), theirs.maps(codes_BL)
    torch.testing.assert_close(made_B1HW, expected_B1HW, atol=1e-6, rtol=0)
    assert expected_B1HW.std() > 0.05


@pytest.mark.parametrize("sizes", [SMALL, {}], ids=["small", "aurora"])
def test_codes_and_maps_are_theirs(tmp_path, sizes):
    theirs = random(**sizes)
    torch.save({"weights": theirs.state_dict()}, tmp_path / "vae-final.pt")
    config = convert_aurora_vqvae(tmp_path / "vae-final.pt", tmp_path / "out")
    tokenizer = perceptio.load(tmp_path / "out")
    assert tokenizer.spec == config.spec and config.spec.convention == DepthConvention()
    assert_equal(tokenizer, theirs)
    if not sizes:
        assert (config.spec.image_size, config.spec.grid) == ((320, 320), (10, 10))
        assert (config.codebook_size, config.latent_dim) == (128, 512)
        assert (config.widths, config.residual_blocks) == ((16, 32, 64, 128, 256), 2)


def test_every_tensor_has_a_place(small, tmp_path):
    torch.save({"weights": small.state_dict()}, tmp_path / "a.pt")
    convert_aurora_vqvae(tmp_path / "a.pt", tmp_path / "out")
    held = load(tmp_path / "out").state_dict()
    named = {name: value for name, value in small.state_dict().items() if not name.startswith("_vq_vae")}
    assert len(named) == 30 and all(torch.equal(held[name], value) for name, value in named.items())
    quantizer = small._vq_vae
    assert torch.equal(held["quantizer.vq._codebook.embed"][0], quantizer._embedding)
    assert torch.equal(held["quantizer.vq._codebook.cluster_size"][0], quantizer._ema_cluster_size)
    assert torch.equal(held["quantizer.vq._codebook.embed_avg"][0], quantizer._ema_w)
    assert len(held) == len(named) + 5 and held["frozen"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"weights": {f"module.{name}": value for name, value in weights.items()}},
        lambda weights: {"weights": {name: value for name, value in weights.items() if "_ema" not in name}},
    ],
    ids=["bare", "module", "without averages"],
)
def test_the_ways_such_a_file_is_written(small, tmp_path, wrap):
    torch.save(wrap(dict(small.state_dict())), tmp_path / "a.pt")
    convert_aurora_vqvae(tmp_path / "a.pt", tmp_path / "out")
    assert_equal(load(tmp_path / "out"), small)


def test_tensors_that_do_not_fit_are_all_named(small, tmp_path):
    weights = dict(small.state_dict())
    weights.pop("decoder.0.bias")
    weights["encoder.0.bias"] = torch.zeros(5)
    weights["decoder.3.running_mean"] = torch.zeros(3)
    torch.save({"weights": weights}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as raised:
        convert_aurora_vqvae(tmp_path / "a.pt", tmp_path / "out")
    message = str(raised.value)
    assert "a.pt is not AURORA's VQ-VAE" in message and "decoder.0.bias is missing" in message
    assert "encoder.0.bias has shape (5,) instead of (4,)" in message
    assert "decoder.3.running_mean is not a part of this model" in message
    assert not (tmp_path / "out").exists()


def test_other_files_are_refused(tmp_path):
    torch.save({"weights": {"layer.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(
        CheckpointError, match="lacks _vq_vae._embedding or encoder.0.weight; it holds layer.weight"
    ):
        convert_aurora_vqvae(tmp_path / "other.pt", tmp_path / "out")
    torch.save({"weights": 3}, tmp_path / "number.pt")
    with pytest.raises(
        CheckpointError, match="holds no state dict of whole tensors, neither at its top nor under"
    ):
        convert_aurora_vqvae(tmp_path / "number.pt", tmp_path / "out")
    torch.save({"weights": Theirs(**SMALL)}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="its pickle asks to run code, which is never done"):
        convert_aurora_vqvae(tmp_path / "code.pt", tmp_path / "out")


def test_the_command(small, tmp_path, monkeypatch, capsys):
    torch.save({"weights": small.state_dict()}, tmp_path / "a.pt")
    arguments = [
        "perceptio",
        "convert",
        "aurora-vqvae",
        str(tmp_path / "a.pt"),
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert not stopped.value.code and "32 codes, 10x10 of them for 80x80 pixels" in capsys.readouterr().out
    assert_equal(load(tmp_path / "out"), small)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2 and "is there already and is not empty" in capsys.readouterr().err
