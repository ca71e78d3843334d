"""Pickles from strangers: plain values, and nothing that runs."""

import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import python2_pickle

from perceptio.data.sources.plain_pickle import read_plain_pickle
from perceptio.errors import DataError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def read(tmp_path):
    def read(data):
        (tmp_path / "refs(unc).p").write_bytes(data)
        return read_plain_pickle(tmp_path / "refs(unc).p")

    return read


@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_of_every_protocol_are_read(tmp_path_factory, value, protocol):
    file = tmp_path_factory.mktemp("pickles") / "refs(unc).p"
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    assert read_plain_pickle(file) == value


def test_texts_of_python_2_are_latin_1(read):
    value = [{"sent": "café", "sent_id": 7, "tokens": ["café", "it's", 'a "b"']}]
    data = python2_pickle(value)
    assert data.startswith(b"(lp1\n(dp2\nS'sent'\np3\nS'caf\\xe9'\np4\ns")
    assert read(data) == value


class Runs:
    """Whoever opens it runs a command."""

    def __reduce__(self):
        return os.system, ("touch this-was-run",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_wants_to_run_code_is_refused_by_name_of_what_it_wanted(read, monkeypatch, protocol):
    data = pickle.dumps([Runs()], protocol=protocol)
    called = []
    monkeypatch.setattr(os, "system", called.append)
    with pytest.raises(
        DataError, match=r"refs\(unc\)\.p is a pickle that asks for (posix|nt)\.system, and the"
    ):
        read(data)
    assert not called


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (pickle.dumps(np.float32(1)), "numpy"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"(ibuiltins\nprint\n.", "builtins.print"),
        (b"Psomething\n.", "an object outside of it"),
        (b"\x80\x02\x82\x07.", "the extension 7"),
    ],
    ids=["numpy", "global", "instance", "persistent", "extension"],
)
def test_whatever_else_a_pickle_asks_for_is_refused(read, data, wanted):
    with pytest.raises(DataError, match=f"asks for {wanted}"):
        read(data)


@pytest.mark.parametrize("data", [b"S'a'\n(dS'x'\nI1\nsb.", b"S'a'\n(tR.", b"S'a'\n(t\x81."])
def test_plain_values_are_never_called_or_given_attributes(read, data):
    with pytest.raises(DataError, match="is not the pickle that was published"):
        read(data)


def test_a_pickle_cut_short_says_so(read):
    data = python2_pickle([{"ref_id": 1, "sentences": []}] * 20)
    for end in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(DataError, match="is not the pickle that was published .*: download it again"):
            read(data[:end])


def test_a_small_file_takes_little_memory_whatever_it_states(read):
    """A value numbered far out, and texts that say they have a terabyte."""
    far = b"\x80\x02K\x01r" + struct.pack("<I", 2**31 - 1) + b"."
    long = b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc."
    frame = b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"K\x01."
    tracemalloc.start()
    try:
        assert read(far) == read(frame) == 1
        with pytest.raises(DataError, match="is not the pickle that was published"):
            read(long)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_a_missing_file_and_a_far_too_large_one_are_told(tmp_path, read, monkeypatch):
    with pytest.raises(DataError, match="none.p does not exist, or is no file: check the path"):
        read_plain_pickle(tmp_path / "none.p")
    monkeypatch.setattr("perceptio.data.sources.plain_pickle.MAX_BYTES", 3)
    with pytest.raises(DataError, match="has 5 bytes, and a pickle is read up to 3"):
        read(b"I17\n.")
