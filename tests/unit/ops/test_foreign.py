import pytest

from perceptio.errors import DataError, InputError
from perceptio.ops.foreign import MeasuredFile, naming, parsing, reason_of


@pytest.mark.parametrize(
    "failure", [KeyError("k"), RecursionError("deep"), MemoryError(), SystemError("a\nb.")]
)
def test_any_failure_becomes_the_sentence(failure):
    sentence = r"^{x} cannot be read \(.+\): write it again\.$"
    boundary = parsing(DataError, "{x} cannot be read ({reason}): write it again.")
    with pytest.raises(DataError, match=sentence) as caught, boundary:
        raise failure
    assert caught.value.__cause__ is failure


def test_our_own_errors_and_what_is_no_failure_of_a_file_pass():
    for error in (InputError("mine"), KeyboardInterrupt(), SystemExit(1)):
        with pytest.raises(type(error)) as caught, parsing(DataError, "{reason}"):
            raise error
        assert caught.value is error


def test_a_reason_is_one_line_and_not_too_long():
    assert reason_of(ValueError("a\n  b.\n")) == "a b"
    assert reason_of(KeyError("k")) == "KeyError 'k'"
    assert reason_of(ValueError()) == "ValueError"
    assert len(reason_of(ValueError("x" * 999))) == 201


def test_a_file_is_not_asked_for_more_than_it_has(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with MeasuredFile(tmp_path / "a") as file:
        assert file.read(2**62) == b"0123456789" and file.read(2**62) == file.read() == b""
        file.seek(4)
        assert file.read(3) == b"456" and file.read() == b"789"


def test_a_panic_of_a_rust_library_is_a_failure_too():
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(DataError, match="it broke \\(gave up\\)"), parsing(DataError, "it broke ({reason})"):
        raise panic("gave up")


def test_our_own_errors_are_given_the_file_that_they_are_about():
    with pytest.raises(DataError, match="a.json: too small"), naming("a.json"):
        raise DataError("too small")
