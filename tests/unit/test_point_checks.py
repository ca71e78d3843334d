"""What a recipe cannot say of marked points is refused when it is loaded, in a sentence."""

import json

import attrs
import pytest
from small import small_recipe

from perceptio.errors import RecipeError
from perceptio.recipe import DataConfig, PointValues, Recipe, Stream
from perceptio.serialize import from_json, to_json
from perceptio.settings import with_settings
from perceptio.tokenizers.perception.map import MapFSQConfig

LOOKUP = small_recipe(answer_format="lookup", point_values=PointValues())


def normals(channels=3):
    tokenizer = MapFSQConfig(
        map="normals",
        channels=channels,
        low=-1.0,
        levels=(4, 4),
        grid=(4, 4),
        image_size=(16, 16),
        widths=(4, 4),
    )
    return Stream(name="normals", tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"point_values": None},
            "answer_format='lookup' gives the model values of marked points, and point_values is not set; set it to "
            "PointValues(), or answer_format to 'readout'.",
        ),
        (
            {"answer_format": "direct"},
            "point_values is set, and with answer_format='direct' nothing is said of marked points; set it to None, "
            "or answer_format to 'readout' or 'lookup'.",
        ),
        (
            {"streams": LOOKUP.streams[:1], "heads": {}, "losses": LOOKUP.losses[:1]},
            "the lookup format looks up a map whose codes lie on a grid, and no stream has one; add such a stream, "
            "as of depth, or set answer_format='direct'.",
        ),
        (
            {"streams": (*LOOKUP.streams, normals()), "readout": "normals"},
            "point_values are of the stream 'normals', and its tokenizer map_fsq has no values at points; name "
            "another stream with readout, or set point_values to None.",
        ),
        (
            {"point_values": PointValues(source="vision_head"), "heads": {}, "losses": LOOKUP.losses[:-1]},
            "point_values.source is 'vision_head', and the stream 'depth' has no auxiliary head; add "
            'heads={"depth": …}, or look up what is "written".',
        ),
        (
            {"data": attrs.evolve(LOOKUP.data, perceive="separate_task")},
            "what is written of the stream 'depth' is looked up, and data.perceive is 'separate_task', so that "
            "nothing is written before an answer; set it to 'before', or point_values.source to 'vision_head'.",
        ),
        (
            {"answer_format": "readout", "point_values": PointValues(decoding="soft")},
            "point_values.decoding is 'soft', and with answer_format='readout' nothing is looked up; leave it at "
            "'hard'.",
        ),
        ({"point_values": 64}, "point_values is 64; it must be a PointValues or None."),
        ({"answer_format": "look-up"}, "answer_format is 'look-up'; it must be 'direct' or 'readout' or 'lookup'."),
        (
            {"answer_format": "look-up", "streams": (), "heads": {}, "losses": LOOKUP.losses[:1]},
            "answer_format is 'look-up'; it must be 'direct' or 'readout' or 'lookup'.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_up_is_refused(changes, said):
    with pytest.raises(RecipeError) as refused:
        attrs.evolve(LOOKUP, **changes).check()
    assert list(refused.value.problems) == [said]


def test_a_map_that_is_decoded_with_the_picture_is_refused(monkeypatch):
    spec = LOOKUP.stream("depth").spec
    monkeypatch.setattr(Stream, "spec", property(lambda self: attrs.evolve(spec, image_size=(8, 8))))
    recipe = attrs.evolve(LOOKUP, streams=LOOKUP.streams[1:])
    from perceptio.point_checks import point_value_problems

    (said,) = point_value_problems(recipe)
    assert said.startswith(
        "point_values are of the stream 'depth', which is decoded with the picture, and a look-up"
    )


def test_a_map_of_one_channel_can_be_looked_up():
    attrs.evolve(LOOKUP, streams=(*LOOKUP.streams, normals(channels=1)), readout="normals").check()


def test_one_level_says_nothing():
    with pytest.raises(RecipeError, match="levels is 1: it must be at least 2"):
        PointValues(levels=1)


@pytest.mark.parametrize("name", ["level", "loc"])
def test_a_stream_is_not_called_as_tokens_of_points_are(name):
    recipe = small_recipe(
        streams=(normals(), attrs.evolve(normals(1), name=name)), losses=LOOKUP.losses[:1], heads={}
    )
    with pytest.raises(
        RecipeError, match=f"streams has the name '{name}', by which tokens of marked points are"
    ):
        recipe.check()


def test_settings_reach_them_and_json_keeps_them():
    recipe = with_settings(LOOKUP, {"point_values.levels": "8", "point_values.trained_with": "own_codes"})
    assert recipe.point_values == PointValues(levels=8, trained_with="own_codes")
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe
    assert with_settings(small_recipe(), {"point_values": "{}", "answer_format": "lookup"}) == attrs.evolve(
        small_recipe(), point_values=PointValues(), answer_format="lookup"
    )


def test_a_recipe_from_before_there_were_values_is_read():
    document = to_json(small_recipe())
    del document["point_values"]
    read = from_json(document)
    assert isinstance(read, Recipe) and read.point_values is None and isinstance(read.data, DataConfig)
