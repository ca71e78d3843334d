"""What tells two recipes apart."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.recipe import WeightedLoss
from perceptio.recipe_changes import Change, changes
from perceptio.serialize import to_json
from perceptio.settings import load_recipe, with_settings


@pytest.fixture(scope="module")
def tiny():
    return load_recipe("perceptio_tiny")


def between(first, second):
    return {one.path: (one.first, one.second) for one in changes(to_json(first), to_json(second))}


def test_settings_go_by_the_paths_that_set_takes(tiny):
    settings = {
        "train.lr": 0.004,
        "answer_format": "direct",
        "losses.depth_token.weight": 3.0,
        "losses.segmentation_dice.sampling.oversample": 2.0,
        "streams.depth.tokenizer.codebook_size": 64,
        "streams.depth.tokenizer.convention.far_m": 8.0,
        "data.folders.0.weight": 2.0,
        "vision.widths": (32, 64, 96),
    }
    found = between(tiny, with_settings(tiny, settings))
    assert found == {
        "vision.widths": ("[32, 64, 128]", "[32, 64, 96]"),
        "streams.depth.tokenizer.convention.far_m": ("16.0", "8.0"),
        "streams.depth.tokenizer.codebook_size": ("128", "64"),
        "answer_format": ("readout", "direct"),
        "losses.depth_token.weight": ("1.0", "3.0"),
        "losses.segmentation_dice.sampling.oversample": ("3.0", "2.0"),
        "data.folders.0.weight": ("1.0", "2.0"),
        "train.lr": ("0.002", "0.004"),
    }
    # Whatever it says can be set, and takes the first recipe to the second.
    said = {path: value for path, (_, value) in found.items()}
    assert with_settings(tiny, said) == with_settings(tiny, settings)
    assert between(tiny, attrs.evolve(tiny, name="other")) == {}


def test_a_part_that_only_one_has_is_one_line(tiny):
    *kept, dice = tiny.losses
    fewer = attrs.evolve(tiny, losses=tuple(kept), heads={})
    assert between(tiny, fewer) == {
        "heads.depth": ("head:mlp", None),
        "losses.segmentation_dice": ("loss:dice, weight 6", None),
    }
    without = attrs.evolve(tiny, streams=tiny.streams[1:])
    assert between(without, tiny) == {"streams.segmentation": (None, "segmentation:pixel_features")}
    assert dice.loss.term == "segmentation_dice" and isinstance(dice, WeightedLoss)


def test_another_component_is_named_with_its_settings(tiny):
    found = between(tiny, load_recipe("fsq_depth"))
    assert found["streams.depth.tokenizer"] == ("depth:vqvae", "depth:fsq")
    assert found["streams.depth.tokenizer.codebook_size"] == ("128", None)
    assert found["streams.depth.tokenizer.levels"] == (None, "[8, 4, 4]")


def test_streams_in_another_order(tiny):
    turned = attrs.evolve(tiny, streams=tiny.streams[::-1])
    assert between(tiny, turned) == {"streams, in order": ("segmentation, depth", "depth, segmentation")}
    depth = tiny.stream("depth")
    more = attrs.evolve(
        tiny, streams=(depth, attrs.evolve(depth, name="normals"), tiny.stream("segmentation"))
    )
    assert between(tiny, more)["streams, in order"][1] == "depth, normals, segmentation"


def test_a_setting_of_a_plugin_is_compared_without_it():
    """Documents of a run whose plugin is not here: terms are called after it, as `--set` wants them."""
    first = {
        "losses": [{"loss": {"component": "loss:acme/glow", "stream": "depth", "tint": 1}, "weight": 1.0}]
    }
    second = {
        "losses": [{"loss": {"component": "loss:acme/glow", "stream": "depth", "tint": 2}, "weight": 1.0}]
    }
    assert changes(first, second) == [Change(path="losses.acme/depth_glow.tint", first="1", second="2")]


def test_of_long_values_only_what_differs_is_shown():
    words = [f"word{number}" for number in range(40)]
    first, second = " ".join(words), " ".join([*words[:20], "purple", *words[21:]])
    one = Change(path="words", first=first, second=second)
    assert one.shown(60, absent="–") == ("…word20…", "…purple…")
    assert Change(path="x", first="short", second="shore").shown(60, absent="–") == ("short", "shore")
    assert Change(path="x", first="a" * 61, second=None).shown(60, absent="–") == ("a" * 60 + "…", "–")


@given(st.text("ab", max_size=12), st.text("ab", max_size=12), st.integers(1, 8))
def test_two_texts_never_look_alike_unless_they_are_cut(first, second, longest):
    shown = Change(path="x", first=first, second=second).shown(longest, absent="–")
    assert all(len(text) <= longest + 2 for text in shown)
    if shown[0] == shown[1]:
        assert first == second or any(len(text) >= longest for text in shown)
