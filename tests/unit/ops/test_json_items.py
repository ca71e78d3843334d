import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import DataError
from perceptio.ops import json_items
from perceptio.ops.json_items import read_items

ITEMS = st.lists(
    st.dictionaries(st.text(), st.text() | st.integers(-(2**60), 2**60) | st.lists(st.booleans()))
    | st.integers(0, 9)
)


@given(items=ITEMS, indent=st.none() | st.integers(0, 3), chunk=st.integers(1, 40))
def test_items_are_those_of_the_list_wherever_a_chunk_ends(tmp_path_factory, items, indent, chunk):
    path = tmp_path_factory.mktemp("items") / "list.json"
    path.write_text(json.dumps(items, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_items, "CHUNK", chunk)
        assert list(read_items(path)) == items


def test_json_lines_will_do(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n\n{"a": "\\ud83d"}\r\n')
    assert list(read_items(path)) == [{"a": 1}, {"a": "\ud83d"}]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither a JSON list nor JSON lines: it begins with ''"),
        ("<html>", "neither a JSON list nor JSON lines: it begins with '<'"),
        ('[{"a": 1}, {"a": "bro', r"is broken or cut short in its item 2 \(Unterminated string"),
        ('[{"a": 1},', r"is broken or cut short in its item 2 \(Expecting value"),
        ('[{"a": 1}', r"is broken or cut short after its item 1, where '' stands in place of a comma"),
        ('[{"a": 1} {"a": 2}]', r"after its item 1, where '\{' stands in place of a comma"),
        ('[{"a": 1}, ]', r"is broken or cut short in its item 2 \(Expecting value"),
        ('[{"a": NaN}]', r"in its item 1 \(NaN is no number of JSON"),
        ("[" * 200_000, r"in its item 1 \("),
        ("[] []", r"goes on after the end of its list, with '\['"),
        ('{"a": 1}\n{"a": ', r"in its item 2 \(Expecting value"),
    ],
)
def test_what_is_broken_is_said_with_its_item(tmp_path, text, why):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError, match=why):
        list(read_items(path))


def test_a_missing_file_and_one_of_another_encoding_are_said(tmp_path):
    with pytest.raises(DataError, match=r"none.json does not exist, or is no file"):
        list(read_items(tmp_path / "none.json"))
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    with pytest.raises(DataError, match="latin.json cannot be read .*'utf-8' codec"):
        list(read_items(tmp_path / "latin.json"))
