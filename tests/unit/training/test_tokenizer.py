"""Training a tokenizer of maps: what it minimizes, what it leaves behind, and that a seed is all it depends on."""

import math

import attrs
import pytest
import torch
from small import small_recipe
from torch import nn

from perceptio.errors import DataError, InterfaceError, RecipeError, TrainingError
from perceptio.interfaces import Reconstruction
from perceptio.recipe import TokenizerTraining
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.training import tokenizer as training
from perceptio.training.tokenizer import train_tokenizer

VQVAE = small_recipe().stream("depth").tokenizer
FSQ = FSQDepthConfig(
    levels=(4, 3), grid=(4, 4), image_size=(16, 16), widths=(4, 8), residual_blocks=1, latent_dim=4
)
SHORT = TokenizerTraining(steps=6, batch_size=4, warmup_steps=1)
NAN = float("nan")


def some_maps(count=24):
    """Ramps across the map in every direction [N, 1, 16, 16]."""
    angle_N = torch.arange(count) * (2 * math.pi / count)
    y_H1, x_1W = torch.linspace(-0.35, 0.35, 16)[:, None], torch.linspace(-0.35, 0.35, 16)[None]
    return (0.5 + angle_N.cos().view(-1, 1, 1) * y_H1 + angle_N.sin().view(-1, 1, 1) * x_1W)[:, None]


def trained(config=VQVAE, maps=None, settings=SHORT, seed=0, **options):
    torch.manual_seed(seed)
    tokenizer = config.build()
    records = train_tokenizer(tokenizer, some_maps() if maps is None else maps, settings, **options)
    return tokenizer, records


def assert_same(one, other):
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("config", [VQVAE, FSQ])
def test_training_lowers_the_error_and_then_freezes(config):
    settings = TokenizerTraining(steps=150, batch_size=8, lr=5e-3, warmup_steps=5)
    tokenizer, records = trained(config, settings=settings, record_every=30)
    assert [record.step for record in records] == [30, 60, 90, 120, 150]
    assert records[-1].absolute_error < 0.6 * records[0].absolute_error
    assert records[-1].loss < records[0].loss
    assert 2 <= records[-1].codes_used <= config.spec.codebook_size
    assert 1 < records[-1].perplexity <= records[-1].codes_used

    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    tokenizer.train().reconstruct(some_maps())
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("config", [VQVAE, FSQ])
def test_the_result_depends_on_tokenizer_maps_and_settings_alone(config):
    first, _ = trained(config)
    torch.rand(7)
    again, _ = trained(config, record_every=1)
    assert_same(first, again)
    other, _ = trained(config, settings=attrs.evolve(SHORT, seed=1))
    assert not torch.equal(other.encoder[0].weight, first.encoder[0].weight)


def test_the_caller_s_random_numbers_are_left_as_they_were():
    torch.manual_seed(0)
    tokenizer = VQVAE.build()
    state = torch.get_rng_state()
    train_tokenizer(tokenizer, some_maps(), SHORT)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_record_is_reported_as_it_is_made():
    seen = []
    _, records = trained(on_record=seen.append, record_every=4)
    assert tuple(seen) == records
    assert [record.step for record in records] == [4, 6]  # The last step always makes one.
    assert records[0].seconds_left == pytest.approx(records[0].seconds / 4 * 2)


def test_unknown_pixels_are_filled_and_learned_from_nowhere():
    """Whatever lies in the unknown half of a map, the tokenizer becomes the same."""
    holed = some_maps()
    holed[..., 8:] = NAN
    tokenizer, records = trained(maps=holed)
    assert math.isfinite(records[-1].loss)
    assert_same(tokenizer, trained(maps=holed.clone())[0])


def test_the_error_counts_known_pixels_alone():
    difference = torch.tensor([[1.0, 3.0], [5.0, 100.0]])[None, None]
    known = torch.tensor([[True, True], [True, False]])[None, None]
    assert training._known_mean(difference, known).item() == 3.0
    # Neighbours that are both known: 1 and 3 across, 1 and 5 down.
    assert training._edge_error(difference, known).item() == 2.0 + 4.0


def test_maps_are_drawn_by_their_weights():
    """A map of weight zero is never seen, so that it may hold what would stop training."""
    maps = some_maps(4)
    maps[0] = NAN
    trained(maps=maps, weights_N=torch.tensor([0.0, 1.0, 1.0, 1.0]))
    with pytest.raises(DataError, match="Every channel of a map needs a known pixel"):
        trained(maps=maps, settings=attrs.evolve(SHORT, batch_size=16))


def test_the_first_steps_quantize_nothing(monkeypatch):
    torch.manual_seed(0)
    tokenizer = VQVAE.build()
    whole, seen = tokenizer.reconstruct, []

    def watched(depth_B1HW, *, quantize):
        seen.append((quantize, bool(tokenizer.quantizer.vq._codebook.initted)))
        return whole(depth_B1HW, quantize=quantize)

    monkeypatch.setattr(tokenizer, "reconstruct", watched)
    train_tokenizer(tokenizer, some_maps(), attrs.evolve(SHORT, unquantized=0.5))
    # k-means waits for the first step that is quantized, too.
    assert seen == [(False, False)] * 3 + [(True, False)] + [(True, True)] * 2


def test_a_share_of_steps_out_of_range_is_refused():
    with pytest.raises(RecipeError, match="unquantized is 1.0: it must be at least 0 and below 1"):
        TokenizerTraining(unquantized=1.0)


def test_the_learning_rate_warms_up_and_ends_at_zero():
    settings = TokenizerTraining(steps=100, warmup_steps=9)
    scales = [training._lr_scale(step, settings) for step in range(101)]
    assert scales[0] == pytest.approx(0.1)
    assert max(scales) == pytest.approx(scales[9], abs=0.01) and scales[9] > 0.97
    assert scales[100] == pytest.approx(0.0)


def test_a_tokenizer_that_cannot_be_trained_is_refused():
    class Fixed(nn.Module):
        pass

    with pytest.raises(InterfaceError, match="Fixed cannot be trained: it has no `reconstruct` and `freeze`"):
        train_tokenizer(Fixed(), some_maps(), SHORT)


def test_no_maps_are_refused():
    with pytest.raises(DataError, match="There is no map to train the tokenizer on"):
        trained(maps=torch.zeros(0, 1, 16, 16))


def test_a_loss_that_is_not_finite_stops_training(monkeypatch):
    torch.manual_seed(0)
    tokenizer = VQVAE.build()
    whole = tokenizer.reconstruct

    def broken(depth_B1HW, **how):
        made = whole(depth_B1HW, **how)
        return Reconstruction(
            values=made.values, codes_TL=made.codes_TL, auxiliary_loss=made.auxiliary_loss + NAN
        )

    monkeypatch.setattr(tokenizer, "reconstruct", broken)
    with pytest.raises(TrainingError, match="is nan at step 1: try a lower lr than 0.002"):
        train_tokenizer(tokenizer, some_maps(), SHORT)
