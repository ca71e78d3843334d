"""Values of a model's own configuration have their types and bounds, or are named."""

import json

import pytest

from perceptio.errors import CheckpointError
from perceptio.ops.configuration import Configuration


def configuration(**values):
    return Configuration("config.json", values, CheckpointError)


def test_values_are_read_with_their_types():
    found = configuration(heads=4, patch=[14, 14], tied=False, kind="llama", inner={"heads": 2}, none=None)
    assert found.whole("heads") == 4 and found.side("patch") == 14 and found.flag("tied") is False
    assert found.text("kind") == "llama" and found.section("inner").whole("heads") == 2
    assert found.whole("none", 7) == found.whole("absent", 7) == 7


@pytest.mark.parametrize("value", [0, -1, 2**40, 1.5, "4", True, [4], {}])
def test_a_number_out_of_bounds_is_named(value):
    with pytest.raises(
        CheckpointError, match="config.json has heads .*; it must be a whole number from 1 to"
    ):
        configuration(heads=value).whole("heads")


@pytest.mark.parametrize("read", ["whole", "flag", "text", "section", "side"])
def test_what_is_absent_or_another_type_is_named(read):
    with pytest.raises(CheckpointError, match="config.json has no size, which must be there"):
        getattr(configuration(size=None), read)("size")
    with pytest.raises(CheckpointError, match="config.json has size"):
        getattr(configuration(size=[1, 2.5]), read)("size")


def test_a_file_is_an_object(tmp_path):
    file = tmp_path / "config.json"
    for text, message in (("[]", "is no JSON object: copy it"), ("{", "is not JSON"), ("NaN", "is not JSON")):
        file.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            Configuration.read(file, CheckpointError, "copy it")
    file.write_text(json.dumps({"a": 1}))
    assert Configuration.read(file, CheckpointError, "copy it").whole("a") == 1


@pytest.mark.parametrize("value", [1001, [1] * 1001, list(range(300)), -(2**40)])
def test_no_model_has_so_many_layers(value):
    configuration(inner={"num_hidden_layers": 48, "blocks_per_stage": [2, 6, 36, 4]}).check_depth()
    with pytest.raises(
        CheckpointError, match="config.json, inner has blocks_per_stage .* 1000 layers at most"
    ):
        configuration(inner={"blocks_per_stage": value}).check_depth()
