"""What `vqvae` and `fsq` have in common: every test runs for both."""

import attrs
import pytest
import torch

from perceptio.errors import CheckpointError, DataError, RecipeError
from perceptio.interfaces import DepthConvention, TrainableTokenizer
from perceptio.model.checkpoints.checkpoint import save
from perceptio.model.perception_model import load
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig

SIZES = {"grid": (2, 3), "image_size": (8, 12), "widths": (4, 8), "residual_blocks": 1, "latent_dim": 5}
CONFIGS = {
    "vqvae": VQVAEDepthConfig(codebook_size=12, convention=DepthConvention(near_m=1.0, far_m=16.0), **SIZES),
    "fsq": FSQDepthConfig(levels=(4, 3), **SIZES),
}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture
def tokenizer(config):
    torch.manual_seed(0)
    return config.build().eval()


def some_depth(batch=3, seed=0):
    return torch.rand(batch, 1, 8, 12, generator=torch.Generator().manual_seed(seed))


def every_code(tokenizer):
    """Two maps that have each of the 12 codes once."""
    return torch.arange(tokenizer.spec.codebook_size).view(2, 6)


def test_the_spec_is_known_before_and_after_building(config, tokenizer):
    assert tokenizer.spec == config.spec
    assert (config.spec.codebook_size, config.spec.num_codes) == (12, 6)
    assert config.spec.convention == config.convention
    assert isinstance(tokenizer, TrainableTokenizer)


def test_shapes_and_ranges(tokenizer):
    codes_BL = tokenizer.encode(some_depth())
    assert codes_BL.shape == (3, 6) and codes_BL.dtype == torch.int64
    assert int(codes_BL.min()) >= 0 and int(codes_BL.max()) < 12
    made_B1HW = tokenizer.decode(codes_BL).detach()
    assert made_B1HW.shape == (3, 1, 8, 12)
    assert float(made_B1HW.min()) >= 0 and float(made_B1HW.max()) <= 1


def test_codes_are_row_major_over_the_grid(tokenizer):
    """A code at one place changes the map most in that cell: the fifth of 2x3 is the middle of the second row."""
    codes_BL = torch.zeros(12, 6, dtype=torch.int64)
    codes_BL[:, 4] = torch.arange(12)
    decoded_B1HW = tokenizer.decode(codes_BL).detach()
    moved_hw = decoded_B1HW.std(0)[0].unflatten(0, (2, 4)).unflatten(2, (3, 4)).mean((1, 3))
    assert divmod(int(moved_hw.argmax()), 3) == (1, 1)


def test_one_hot_probabilities_decode_like_their_codes(tokenizer):
    codes_BL = every_code(tokenizer)
    one_hot_BLK = torch.nn.functional.one_hot(codes_BL, 12).float()
    torch.testing.assert_close(
        tokenizer.soft_decode(one_hot_BLK), tokenizer.decode(codes_BL), rtol=0, atol=1e-6
    )


def test_uniform_probabilities_decode_the_mean_latent(tokenizer):
    mean_C = tokenizer.codebook_KC.detach().mean(0)
    expected = tokenizer.decode_latents(mean_C.view(1, -1, 1, 1).expand(1, -1, 2, 3)).clamp(0, 1)
    torch.testing.assert_close(
        tokenizer.soft_decode(torch.full((1, 6, 12), 1 / 12)), expected, rtol=0, atol=1e-6
    )


def test_soft_decoding_has_a_gradient_in_the_probabilities_and_none_in_the_codebook(tokenizer):
    probabilities_BLK = torch.full((1, 6, 12), 1 / 12, requires_grad=True)
    tokenizer.soft_decode(probabilities_BLK).sum().backward()
    assert probabilities_BLK.grad is not None and bool((probabilities_BLK.grad != 0).any())
    assert all(p.grad is None for p in tokenizer.quantizer.parameters())
    assert not tokenizer.codebook_KC.is_leaf or tokenizer.codebook_KC.grad is None


def test_encoding_is_the_same_every_time_and_alone_or_in_a_batch(tokenizer):
    depth_B1HW = some_depth(4)
    codes_BL = tokenizer.encode(depth_B1HW)
    assert torch.equal(codes_BL, tokenizer.encode(depth_B1HW))
    alone = torch.cat([tokenizer.encode(one[None]) for one in depth_B1HW])
    assert torch.equal(codes_BL, alone)
    assert not codes_BL.requires_grad


def test_encoding_moves_nothing_even_in_train_mode(tokenizer):
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    tokenizer.train().encode(some_depth())
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_unknown_pixels_are_read_as_the_mean_of_the_known_ones(tokenizer):
    depth_B1HW = some_depth(1)
    depth_B1HW[..., :2] = float("nan")
    filled_B1HW = depth_B1HW.nan_to_num(float(depth_B1HW.nanmean()))
    assert torch.equal(tokenizer.encode(depth_B1HW), tokenizer.encode(filled_B1HW))
    assert not tokenizer.decode(tokenizer.encode(depth_B1HW)).isnan().any()


def test_a_map_without_a_known_pixel_is_refused(tokenizer):
    depth_B1HW = some_depth(2)
    depth_B1HW[1] = float("nan")
    with pytest.raises(
        DataError, match=r"needs a known pixel\. These maps of the batch, by index, lack one: \[1\]"
    ):
        tokenizer.encode(depth_B1HW)


@pytest.mark.parametrize("shape", [(8, 12), (1, 8, 12), (1, 3, 8, 12), (1, 1, 12, 8)])
def test_a_map_of_another_size_is_refused(tokenizer, shape):
    for use in (tokenizer.encode, tokenizer.reconstruct):
        with pytest.raises(DataError, match=r"and not floating-point \[[BT], 1, 8, 12\]"):
            use(torch.rand(shape))


def test_reconstruction_passes_gradients_through_the_codes(tokenizer):
    made = tokenizer.train().reconstruct(some_depth(8))
    assert made.values.shape == (8, 1, 8, 12) and made.codes_TL.shape == (8, 6)
    (made.values.square().mean() + made.auxiliary_loss).backward()
    assert bool((tokenizer.encoder[0].weight.grad != 0).any())


def test_unquantized_reconstruction_decodes_latents_as_they_are_and_starts_nothing(tokenizer):
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    depth_B1HW = some_depth()
    made = tokenizer.train().reconstruct(depth_B1HW, quantize=False)
    latents_BChw = tokenizer._latents(depth_B1HW).mT.unflatten(2, (2, 3))
    torch.testing.assert_close(made.values, tokenizer.decode_latents(latents_BChw), rtol=0, atol=1e-6)
    assert torch.equal(made.codes_TL, tokenizer.encode(depth_B1HW))
    assert made.auxiliary_loss.item() == 0.0
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_reconstruction_in_eval_mode_is_encoding_and_decoding(tokenizer):
    depth_B1HW = some_depth()
    made = tokenizer.reconstruct(depth_B1HW)
    assert torch.equal(made.codes_TL, tokenizer.encode(depth_B1HW))
    torch.testing.assert_close(made.values.clamp(0, 1), tokenizer.decode(made.codes_TL), rtol=0, atol=1e-6)


def test_a_frozen_tokenizer_moves_no_more(tokenizer):
    tokenizer.train().reconstruct(some_depth())
    tokenizer.freeze()
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    tokenizer.train()
    assert not any(module.training for module in tokenizer.modules())
    assert not any(p.requires_grad for p in tokenizer.parameters())
    tokenizer.reconstruct(some_depth(seed=1))
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_folder_gives_a_new_tokenizer_its_weights_and_keeps_it_frozen(config, tokenizer, tmp_path):
    tokenizer.freeze()
    save(tokenizer, tmp_path / "trained", config=config)
    named = attrs.evolve(config, weights=str(tmp_path / "trained"))
    torch.manual_seed(1)
    fresh = named.build()
    assert not torch.equal(fresh.encoder[0].weight, tokenizer.encoder[0].weight)
    assert named.load_weights(fresh)
    codes_BL = every_code(tokenizer)
    for trained in (fresh, load(tmp_path / "trained")):
        assert torch.equal(trained.decode(codes_BL), tokenizer.decode(codes_BL))
        assert not trained.train().training


def test_without_weights_a_tokenizer_keeps_its_random_values(config, tokenizer):
    before = tokenizer.encoder[0].weight.clone()
    assert not config.load_weights(tokenizer)
    assert torch.equal(tokenizer.encoder[0].weight, before)


def test_weights_that_are_not_there_are_named(config, tokenizer, tmp_path):
    named = attrs.evolve(config, weights=str(tmp_path / "nowhere"))
    with pytest.raises(
        CheckpointError, match=f"depth:{config.name} is to read its weights from .*nowhere, and there is no"
    ):
        named.load_weights(tokenizer)


def test_weights_of_another_size_are_refused(config, tokenizer, tmp_path):
    save(tokenizer, tmp_path / "trained", config=config)
    wider = attrs.evolve(config, latent_dim=6, weights=str(tmp_path / "trained"))
    with pytest.raises(CheckpointError, match="does not fit AutoencoderDepthTokenizer: .* instead of"):
        wider.load_weights(wider.build())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 0}, "a size is below 1: .*latent_dim 0"),
        ({"residual_blocks": -1}, "a size is below 1: .*residual_blocks -1"),
        (
            {"image_size": (8, 8)},
            r"must be the grid \(2, 3\) times one power of two of at least 2, such as \(16, 24\)",
        ),
        ({"image_size": (6, 9)}, "times one power of two"),
        ({"image_size": (2, 3)}, "times one power of two"),
        ({"widths": (4, 8, 8)}, r"3 widths \(4, 8, 8\) are given, and 2 are needed"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config, change, message):
    with pytest.raises(RecipeError, match=f"{config.name}: .*{message}"):
        attrs.evolve(config, **change)
