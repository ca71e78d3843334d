import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from perceptio.backbones.language.words import SPECIAL, WordsTokenizer, vocabulary_size
from perceptio.interfaces import TextTokenizer

WORDS = ("Which", "point", "is", "closest", "?", "sphere", "A", "B")
TOKENIZER = WordsTokenizer(WORDS)


def test_it_keeps_the_protocol():
    assert isinstance(TOKENIZER, TextTokenizer)
    assert TOKENIZER.vocab_size == vocabulary_size(WORDS)


@given(st.text())
def test_any_text_comes_back_exact(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_known_words_are_single_ids():
    assert len(TOKENIZER.encode("Which point is closest?")) == 5


@pytest.mark.parametrize("mark", [*"ABCDE", "(", ")"])
def test_letters_and_brackets_are_single_ids(mark):
    assert len(TOKENIZER.encode(mark)) == 1
    assert TOKENIZER.encode("(B)") == [TOKENIZER.encode(part)[0] for part in "(B)"]


def test_special_strings_are_special_in_templates_alone():
    for text in SPECIAL:
        assert len(TOKENIZER.encode_template(text)) == 1
        assert TOKENIZER.encode_template(text)[0] not in TOKENIZER.encode(text)
        assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert TOKENIZER.encode_template(SPECIAL[-1]) == [TOKENIZER.end_id]


def test_the_name_of_a_byte_is_ordinary_text():
    assert TOKENIZER.decode(TOKENIZER.encode("<0x41>é")) == "<0x41>é"


def test_decoding_leaves_special_ids_out():
    ids = [*TOKENIZER.encode("point"), TOKENIZER.end_id]
    assert TOKENIZER.decode(ids) == "point"


def test_the_saved_file_is_the_tokenizers_librarys(tmp_path):
    TOKENIZER.save(tmp_path / "text")
    loaded = Tokenizer.from_file(str(tmp_path / "text" / "tokenizer.json"))
    assert loaded.encode("a sphere, naïve").ids == TOKENIZER.encode("a sphere, naïve")
