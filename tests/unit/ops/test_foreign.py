import pytest

from perceptio.errors import DataError, InputError
from perceptio.ops.foreign import parsing, reason_of


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
