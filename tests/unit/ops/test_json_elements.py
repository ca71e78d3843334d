"""The lists of a large JSON object, an element at a time."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import DataError
from perceptio.ops.json_elements import JSONElements

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    held=st.dictionaries(st.text(max_size=4), st.lists(VALUES, max_size=4) | VALUES, min_size=1, max_size=4),
    indent=st.sampled_from([None, 1]),
    escaped=st.booleans(),
)
def test_every_element_is_given_once_and_can_be_read_again(tmp_path_factory, held, indent, escaped):
    file = tmp_path_factory.mktemp("json") / "instances.json"
    file.write_text(
        json.dumps(held, indent=indent, ensure_ascii=escaped), encoding="utf-8", errors="surrogatepass"
    )
    try:
        elements = JSONElements(file)
    except DataError:
        return  # Half a surrogate pair cannot be written as UTF-8.
    expected = [(name, one) for name, value in held.items() if isinstance(value, list) for one in value]
    found = list(elements)
    assert [(one.list, one.value) for one in found] == expected
    assert [elements.at(one.start) for one in found] == [value for _, value in expected]


WHOLE = '{"info": {"year": 2014}, "images": [{"id": 1}, {"id": 2}], "n": 3}'


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_json_cut_short_anywhere_is_told(tmp_path, end):
    file = tmp_path / "instances.json"
    file.write_text(WHOLE[:end])
    with pytest.raises(
        DataError, match="instances.json is not the JSON that was published .*: download it again"
    ):
        list(JSONElements(file))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "'{' is expected"),
        ('{"a": [1]} {"b": [2]}', "something stands after its end"),
        ('{"a" [1]}', "':' is expected"),
        ('{"a": [1 2]}', "',' is expected"),
        ("{3: [1]}", "Expecting|a name is expected"),
        ('{"a": [NaN]}', "NaN is no number of JSON"),
        ('{"a": [' + "[" * 100_000, "recursion|nested|cut short"),
    ],
)
def test_what_is_no_json_object_is_told(tmp_path, text, reason):
    file = tmp_path / "instances.json"
    file.write_text(text)
    with pytest.raises(DataError, match=rf"instances.json is not the JSON that was published \(.*({reason})"):
        list(JSONElements(file))


def test_a_missing_file_a_far_too_large_one_and_bytes_are_told(tmp_path, monkeypatch):
    file = tmp_path / "instances.json"
    with pytest.raises(DataError, match="instances.json does not exist, or is no file: check the path"):
        JSONElements(file)
    file.write_bytes(b'{"a": ["\xe9"]}')
    with pytest.raises(DataError, match="instances.json cannot be read .*utf-8.*: download it again"):
        JSONElements(file)
    monkeypatch.setattr("perceptio.ops.json_elements.MAX_BYTES", 3)
    with pytest.raises(DataError, match="has 12 bytes, and such JSON is read up to 3"):
        JSONElements(file)
