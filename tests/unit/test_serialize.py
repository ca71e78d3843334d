"""Recipes and configs as JSON: equal after a round trip, strict on the way in."""

import json

import attrs
import pytest
from fakes import FakeDepthConfig
from small import small_recipe

from perceptio.errors import RecipeError, UnknownNameError
from perceptio.interfaces import PerceptionTokenizerConfig
from perceptio.registry import Registry
from perceptio.serialize import fingerprint, from_json, identity_of, structure, to_json
from perceptio.settings import load_recipe
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig


@pytest.mark.parametrize(
    "recipe", [small_recipe(), load_recipe("perceptio_tiny")], ids=lambda recipe: recipe.name
)
def test_a_recipe_comes_back_equal(recipe):
    document = json.loads(json.dumps(to_json(recipe)))
    assert from_json(document) == recipe
    assert fingerprint(from_json(document)) == fingerprint(recipe)


@pytest.mark.parametrize("name", ["perceptio_tiny", "perceptio_lookup", "fsq_depth", "perceptio_streams"])
def test_settings_at_their_default_are_left_out_and_all_others_are_told(name):
    recipe = load_recipe(name)
    short = identity_of(recipe, defaults=False)
    assert from_json(short) == recipe
    assert len(json.dumps(short)) < 0.6 * len(json.dumps(identity_of(recipe)))
    assert "too_long" not in short["data"]
    other = attrs.evolve(recipe, data=attrs.evolve(recipe.data, too_long="skip"))
    assert identity_of(other, defaults=False)["data"]["too_long"] == "skip"


def test_a_component_is_named():
    document = to_json(FSQDepthConfig())
    assert document["component"] == "depth:fsq"
    assert from_json(document) == FSQDepthConfig()


def test_a_fingerprint_changes_with_any_setting():
    recipe = small_recipe()
    other = attrs.evolve(recipe, train=attrs.evolve(recipe.train, lr=9e-4))
    assert fingerprint(recipe) != fingerprint(other)
    assert fingerprint(recipe) == fingerprint(small_recipe())


def test_whole_numbers_are_the_floats_that_they_stand_for():
    recipe = small_recipe()
    whole, real = (
        attrs.evolve(
            recipe,
            train=attrs.evolve(recipe.train, max_grad_norm=clip),
            data=attrs.evolve(recipe.data, mixture=mix),
        )
        for clip, mix in ((1, {"referring": 2}), (1.0, {"referring": 2.0}))
    )
    assert fingerprint(whole) == fingerprint(real) == fingerprint(from_json(to_json(whole)))


def test_weights_count_by_what_they_hold_and_not_by_where_they_lie(tmp_path):
    for name, held in (("one", b"same"), ("two", b"same"), ("three", b"other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(held)
    one, two, three, absent = (
        fingerprint(FSQDepthConfig(weights=str(tmp_path / name))) for name in ("one", "two", "three", "four")
    )
    assert one == two == fingerprint(FSQDepthConfig(weights=str(tmp_path / "one" / "model.safetensors")))
    assert len({one, three, absent, fingerprint(FSQDepthConfig())}) == 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"codebok_size": 3}, UnknownNameError, "no setting 'codebok_size'; did you mean 'codebook_size'"),
        ({"codebook_size": "128"}, RecipeError, "codebook_size is '128'; it must be int"),
        ({"codebook_size": True}, RecipeError, "codebook_size is True; it must be int"),
        ({"grid": [10]}, RecipeError, "it must be a list of 2 values"),
        ({"widths": 16}, RecipeError, "it must be a list of any number of values"),
        ({"convention": {"near_m": 2.0, "far_m": 1.0}}, RecipeError, r"near_m \(2.0\) must be above 0"),
        ({"convention": 3}, RecipeError, "must be a DepthConvention"),
        ({"component": "depth:vqave"}, UnknownNameError, "did you mean 'vqvae'"),
        ({"component": "vqvae"}, RecipeError, "it must be kind:name"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(change, error, message):
    document = to_json(small_recipe().stream("depth").tokenizer) | change
    with pytest.raises(error, match=message):
        from_json(document)


def test_a_component_of_another_kind_does_not_fit_its_place():
    document = to_json(small_recipe())
    document["vision"] = document["streams"][1]["tokenizer"]
    with pytest.raises(
        RecipeError, match="vision is the component depth:vqvae; it must be a VisionEncoderConfig"
    ):
        from_json(document)


def test_a_recipe_with_a_part_missing_says_which():
    document = to_json(small_recipe())
    del document["language"]
    with pytest.raises(RecipeError, match="is incomplete.*language"):
        from_json(document)


def test_a_setting_that_is_gone_is_read_over():
    document = to_json(small_recipe())
    (cells,) = (held["loss"] for held in document["losses"] if held["loss"]["component"] == "loss:cell_codes")
    cells["grid"] = [10, 10]
    assert from_json(document) == small_recipe()


def test_a_tokenizer_of_any_kind_is_found_by_its_name_alone(tmp_path, monkeypatch):
    found = structure("vqvae", PerceptionTokenizerConfig, Registry.discover())
    assert found == VQVAEDepthConfig()
    with pytest.raises(
        UnknownNameError,
        match="no depth or segmentation or perception component 'vqave'; did you mean 'vqvae'",
    ):
        structure("vqave", PerceptionTokenizerConfig, Registry.discover())
    (tmp_path / "two.py").write_text(TWO_OF_A_NAME)
    registry = Registry.discover([tmp_path / "two.py"])
    with pytest.raises(
        UnknownNameError,
        match="name of several components: write depth:two/fake_levels or perception:two/fake",
    ):
        structure("two/fake_levels", PerceptionTokenizerConfig, registry)
    assert structure("depth:two/fake_levels", PerceptionTokenizerConfig, registry) == FakeDepthConfig()


TWO_OF_A_NAME = """
import attrs
from fakes import FakeDepthConfig
from perceptio.hookspecs import hookimpl
from perceptio.interfaces import Kind

@attrs.frozen(kw_only=True)
class Other(FakeDepthConfig):
    kind = Kind.PERCEPTION

@hookimpl
def register_depth_tokenizers():
    return [FakeDepthConfig]

@hookimpl
def register_perception_tokenizers():
    return [Other]
"""
