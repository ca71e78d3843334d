"""Maps in a range of values: unknown pixels, unit vectors, mirrors, and settings that do not fit."""

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import DataError, RecipeError
from perceptio.tokenizers.perception.map import MapFSQConfig, MapVQVAEConfig

SIZES = {"grid": (2, 3), "image_size": (8, 12), "widths": (4, 8), "residual_blocks": 1, "latent_dim": 5}
EDGES = MapFSQConfig(map="edges", levels=(4, 3), **SIZES)
NORMALS = MapVQVAEConfig(map="normals", channels=3, low=-1.0, unit_vectors=True, codebook_size=12, **SIZES)


def built(config):
    torch.manual_seed(0)
    return config.build().eval()


def facing(x, y, z, size=(16, 24)):
    return np.broadcast_to(np.array([x, y, z], dtype=np.float32), (*size, 3))


def test_the_stream_is_a_grid_of_codes_learned_from_the_map():
    stream = EDGES.spec.stream
    assert (stream.target, stream.per, stream.written.grid) == ("edges", "image", (2, 3))
    assert stream.written.codebook_sizes == (12,)


def test_a_map_is_averaged_over_areas_without_what_is_unknown():
    map_HW1 = np.zeros((16, 24, 1), dtype=np.float32)
    map_HW1[::2] = 1.0
    map_HW1[:, ::2] = np.nan
    map_HW1[:6, :6] = np.nan
    target_HW = built(EDGES).targets([map_HW1])[0, 0]
    assert bool(target_HW[0, 0].isnan()) and not bool(target_HW[4:, 4:].isnan().any())
    torch.testing.assert_close(target_HW[4:, 4:], torch.full((4, 8), 0.5), rtol=0, atol=0.15)


def test_normals_stay_of_length_one():
    tokenizer = built(NORMALS)
    striped = np.where(np.arange(16)[:, None, None] % 2 == 0, facing(0.0, 0.6, 0.8), facing(0.6, 0.0, 0.8))
    lengths = tokenizer.targets([striped.astype(np.float32)]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    decoded_N3HW = tokenizer.from_codes(torch.arange(12).view(2, 6))
    torch.testing.assert_close(decoded_N3HW.norm(dim=1), torch.ones(2, 8, 12))


@given(st.floats(0.0, 180.0))
def test_the_angle_between_normals_is_exact(degrees):
    angle = np.deg2rad(degrees)
    one, other = (
        torch.from_numpy(facing(*vector, size=(8, 12)).copy()).permute(2, 0, 1)[None]
        for vector in ((0.0, 0.0, 1.0), (np.sin(angle), 0.0, np.cos(angle)))
    )
    other = torch.nn.functional.normalize(other, dim=1)
    assert built(NORMALS).compare(one, other)["angle_degrees"].tolist() == [pytest.approx(degrees, abs=0.05)]


def test_a_blank_map_of_edges_has_no_correlation_and_a_fainter_one_all():
    true_N1HW = torch.zeros(4, 1, 8, 12)
    true_N1HW[:, :, 3] = 1.0
    true_N1HW[3, :, :, 6:] = torch.nan
    made_N1HW = torch.stack([torch.zeros(1, 8, 12), 0.2 * true_N1HW[0], 1 - true_N1HW[0], true_N1HW[0]])
    figures = built(EDGES).compare(made_N1HW, true_N1HW)
    torch.testing.assert_close(figures["correlation"], torch.tensor([0.0, 1.0, -1.0, 1.0]))
    torch.testing.assert_close(figures["absolute_error"], torch.tensor([1 / 8, 0.8 / 8, 1.0, 0.0]))


def test_a_mirrored_normal_points_to_the_other_side():
    tokenizer = built(NORMALS)
    left_half = facing(0.6, 0.0, 0.8).copy()
    left_half[:, 12:] = (0.0, 1.0, 0.0)
    targets = tokenizer.targets([left_half])
    mirrored = tokenizer.mirrored(targets)
    assert mirrored[0, :, 4, 0].tolist() == [0.0, 1.0, 0.0]
    assert mirrored[0, :, 4, -1].tolist() == pytest.approx([-0.6, 0.0, 0.8])
    edges = torch.rand(1, 1, 8, 12)
    assert torch.equal(built(EDGES).mirrored(edges), edges.flip(-1))


def test_a_decoded_map_stays_in_its_range():
    tokenizer = built(attrs.evolve(EDGES, low=-5.0, high=20.0))
    codes_NL = torch.arange(12).view(2, 6)
    for bias, end in ((-50.0, -5.0), (50.0, 20.0)):
        torch.nn.init.constant_(tokenizer.decoder[-1].bias, bias)
        assert bool((tokenizer.from_codes(codes_NL) == end).all())


def test_training_minimizes_the_squared_error_too():
    """Of values brought to [0, 1]: a range of 4 makes it 16 times smaller."""
    config = attrs.evolve(EDGES, low=-1.0, high=3.0, squared_error=2.0)
    maps_T1HW = torch.rand(2, 1, 8, 12)
    made, plain = (
        built(one).reconstruct(maps_T1HW) for one in (config, attrs.evolve(config, squared_error=0.0))
    )
    expected = 2.0 * (made.values - maps_T1HW).square().mean() / 16
    assert (made.auxiliary_loss - plain.auxiliary_loss).item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.equal(made.values, plain.values)


def test_what_is_shown_lies_as_in_the_folder():
    tokenizer = built(NORMALS)
    targets = tokenizer.targets([facing(0.6, 0.0, 0.8)])
    (shown,) = tokenizer.shown(targets, [(16, 24)])
    assert shown.shape == (8, 12, 3) and shown.dtype == np.float32
    assert shown[3, 4].tolist() == pytest.approx([0.6, 0.0, 0.8])


def test_unknown_values_are_filled_channel_by_channel():
    tokenizer = built(attrs.evolve(NORMALS, unit_vectors=False))
    map_HW3 = facing(0.5, -0.5, 1.0).copy()
    whole = tokenizer.to_codes(tokenizer.targets([map_HW3]))
    map_HW3[:4] = np.nan
    assert torch.equal(tokenizer.to_codes(tokenizer.targets([map_HW3])), whole)


@pytest.mark.parametrize(
    ("map_HWC", "message"),
    [
        (
            np.zeros((8, 12, 3)),
            r"A map 'edges' has the shape \[8, 12, 3\], and the tokenizer is set to 1 channel",
        ),
        (np.zeros((8, 12)), r"has the shape \[8, 12\]"),
        (np.full((8, 12, 1), 255.0), "A map 'edges' goes from 255 to 255, and .* to values from 0 to 1"),
        (np.full((8, 12, 1), -0.1), "goes from -0.1 to -0.1"),
        (np.full((8, 12, 1), np.inf), "goes from inf to inf"),
    ],
)
def test_a_map_that_is_set_otherwise_is_refused(map_HWC, message):
    with pytest.raises(DataError, match=message):
        built(EDGES).targets([map_HWC.astype(np.float32)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"map": "depth"},
            "map is 'depth'; it must be the name of a map of the data folder, and none of depth",
        ),
        ({"map": ""}, "map is ''"),
        ({"channels": 0}, r"channels \(0\) must be at least 1"),
        ({"low": 1.0}, r"low \(1\) below high \(1\)"),
        ({"squared_error": -1.0}, r"squared_error \(-1\) not negative"),
        ({"unit_vectors": True}, "unit vectors have at least 2 channels and values on both sides of 0"),
        ({"unit_vectors": True, "channels": 3}, "unit vectors .* low 0, high 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        attrs.evolve(EDGES, **change)
