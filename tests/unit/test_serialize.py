"""Recipes and configs as JSON: equal after a round trip, strict on the way in."""

import json

import attrs
import pytest
from small import small_recipe

from perceptio.errors import RecipeError, UnknownNameError
from perceptio.serialize import fingerprint, from_json, to_json
from perceptio.settings import load_recipe, with_settings
from perceptio.tokenizers.depth.fsq import FSQDepthConfig


@pytest.mark.parametrize(
    "recipe", [small_recipe(), load_recipe("perceptio_tiny")], ids=lambda recipe: recipe.name
)
def test_a_recipe_comes_back_equal(recipe):
    document = json.loads(json.dumps(to_json(recipe)))
    assert from_json(document) == recipe
    assert fingerprint(from_json(document)) == fingerprint(recipe)


def test_a_recipe_that_was_written_before_settings_were_renamed_is_read():
    recipe = with_settings(
        small_recipe(),
        {
            "mask_prompt": "previous_token",
            "data.perceive": "separate_task",
            "data.vision_only": 0.25,
            "train.grad_accumulation": 3,
            "train.max_grad_norm": 0.5,
            "train.save_pretrained_weights": True,
        },
    )
    document = to_json(recipe)
    for part, names in (
        (document, {"mask_prompt": "prompt_state"}),
        (
            document["data"],
            {
                "text_only_readout": "readings",
                "text_only_comparison": "comparisons",
                "vision_only": "pictures",
            },
        ),
        (
            document["train"],
            {
                "micro_batch_size": "batch_size",
                "grad_accumulation": "accumulate",
                "max_grad_norm": "clip",
                "save_pretrained_weights": "save_base",
            },
        ),
    ):
        for now, before in names.items():
            part[before] = part.pop(now)
    document["prompt_state"], document["data"]["perceive"] = "before", "apart"

    assert from_json(document) == recipe

    document["train"]["grad_accumulation"] = 2
    with pytest.raises(
        RecipeError, match="train.grad_accumulation is given twice, once as 'accumulate', its earlier"
    ):
        from_json(document)


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
    document = to_json(small_recipe().depth) | change
    with pytest.raises(error, match=message):
        from_json(document)


def test_a_component_of_another_kind_does_not_fit_its_place():
    document = to_json(small_recipe())
    document["vision"] = document["depth"]
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
