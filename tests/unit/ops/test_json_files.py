import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.errors import CheckpointError, DataError
from perceptio.ops import json_files
from perceptio.ops.json_files import (
    InvalidJSONError,
    append_line,
    format_json,
    parse_json,
    read_json,
    read_lines,
    read_log,
    rewrite_log,
    write_json,
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_what_is_written_is_read_back_on_one_line_or_on_several(value):
    line = format_json(value)
    assert parse_json(line) == value and line.isascii() and line.count("\n") == 1
    assert parse_json(format_json(value, indent=1)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting property name"),
        (b'"\xff"', "not UTF-8"),
        ("NaN", "NaN is no number of JSON"),
        ("-Infinity", "-Infinity is no number of JSON"),
        ("1" + "0" * 400, "beyond 64 bits"),
        ("1e400", "beyond 64 bits"),
        ("1" * 5000, "beyond 64 bits"),
        ("[" * 100_000, "nested deeper than 64"),
        ("[" * 66 + "]" * 66, "nested deeper than 64"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"\\udc00": 1}', "half a surrogate pair"),
        ('"\ud800"', "not UTF-8"),
    ],
)
def test_what_cannot_be_used_is_refused_and_says_why(text, why):
    with pytest.raises(InvalidJSONError, match=why):
        parse_json(text)


def test_the_deepest_nesting_is_read():
    assert parse_json("[" * 64 + "]" * 64)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1: object()}, 10**400])
def test_what_the_reader_would_refuse_is_not_written(value, tmp_path):
    for indent in (None, 1):
        with pytest.raises(InvalidJSONError):
            format_json(value, indent=indent)
    with pytest.raises(DataError, match="cannot be said in JSON"):
        write_json(tmp_path / "a.json", value)
    assert not list(tmp_path.iterdir())


def test_a_file_is_read_or_its_error_names_it_and_the_remedy(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"a": ["é", 1]})
    assert read_json(path) == {"a": ["é", 1]} and "é" in path.read_text(encoding="utf-8")
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"a\.json is not JSON \(.*\): train again\."):
        read_json(path, error=CheckpointError, remedy="train again")
    with pytest.raises(DataError, match="does not exist, or is no file"):
        read_json(tmp_path)
    with pytest.raises(DataError, match="File name too long"):
        read_json(tmp_path / ("n" * 300))
    monkeypatch.setattr(json_files, "MAX_BYTES", 0)
    with pytest.raises(DataError, match="JSON is read up to 0"):
        read_json(path)


def test_a_newline_alone_ends_a_line(tmp_path, monkeypatch):
    path = tmp_path / "lines"
    path.write_bytes("a\u2028b\x0cc\x85\n\n \r\nd\re\r\nf".encode())
    assert [(line.number, line.text.decode()) for line in read_lines(path)] == [
        (1, "a\u2028b\x0cc\x85"),
        (4, "d\re"),
        (5, "f"),
    ]
    monkeypatch.setattr(json_files, "MAX_LINE_BYTES", 5)
    with pytest.raises(DataError, match="line 1 is longer than 5 bytes"):
        list(read_lines(path))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_lines(tmp_path / "absent"))


def test_a_torn_tail_of_a_log_is_dropped_and_said(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == ([], None)
    append_line(path, {"step": 1})
    append_line(path, {"step": 2, "question": "a\u2028b"})
    with path.open("a") as file:
        file.write('{"step": 3, "next_to')
    records, torn = read_log(path)
    assert records == [{"step": 1}, {"step": 2, "question": "a\u2028b"}] and torn == '{"step": 3, "next_to'
    rewrite_log(path, records[:1])
    assert path.read_text() == '{"step":1}\n' and [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        read_log(path)


def test_big_numbers_stay_what_they_are():
    assert parse_json(json.dumps(2**64 - 1)) == 2**64 - 1


def test_a_last_line_without_its_end_is_torn_even_when_it_is_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}')
    assert read_log(path) == ([{"a": 1}], '{"a": 2}')
