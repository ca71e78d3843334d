"""A checkpoint's text tokenizer behind our interface, and its chat template in four strings."""

import json

import pytest
from tiny_hf import CHATML_TEMPLATE, SPECIAL, TEXT_VOCAB, tokenizer_folder, write_tokenizer

from perceptio.backbones.language.hf_text import (
    BYTES,
    CHATML,
    NUM_BYTES,
    HFTextTokenizer,
    derive_template,
    read_tokenizer,
    vocabulary_size,
)
from perceptio.errors import CheckpointError, RecipeError
from perceptio.interfaces import ChatTemplate


@pytest.fixture(scope="module")
def text():
    return HFTextTokenizer(tokenizer_folder(), CHATML, TEXT_VOCAB)


def test_special_tokens_come_from_templates_alone(text):
    assert text.encode_template("<|im_end|>\n")[0] == text.end_id == TEXT_VOCAB - 1
    typed = text.encode("<|im_end|>")
    assert text.end_id not in typed and text.decode(typed) == "<|im_end|>"
    assert text.decode([text.end_id, *text.encode(" point"), text.end_id]) == " point"


def with_tokens(folder, *added, change=None):
    """A tokenizer's folder with further added tokens, (content, id, special)."""
    file = write_tokenizer(folder) / "tokenizer.json"
    document = json.loads(file.read_text())
    document["added_tokens"] += [
        {
            "id": number,
            "content": content,
            "special": special,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
        for content, number, special in added
    ]
    if change:
        change(document)
    file.write_text(json.dumps(document))
    return folder


def test_no_added_token_is_typed_special_or_not(tmp_path):
    text = HFTextTokenizer(with_tokens(tmp_path, ("<think>", TEXT_VOCAB, False)), CHATML, TEXT_VOCAB + 1)
    assert text.encode_template("<think>") == [TEXT_VOCAB]
    assert TEXT_VOCAB not in text.encode("a <think> b") and text.decode(text.encode("<think>")) == "<think>"


def test_a_run_of_spaces_that_a_model_adds_is_text(tmp_path):
    def add_tabs(document):
        document["model"]["vocab"]["\t\t"] = 258  # Without merges: the added token alone writes it.
        for number, token in enumerate(document["added_tokens"]):
            token["id"] = 259 + number if token["special"] else 258

    folder = with_tokens(tmp_path, ("\t\t", 258, False), change=add_tabs)
    text = HFTextTokenizer(folder, CHATML, TEXT_VOCAB + 1)
    assert text.encode("\t\t") == text.encode_template("\t\t") == [258]
    assert text.end_id == 261 and 261 not in text.encode("<|im_end|>")


@pytest.mark.parametrize("number", [TEXT_VOCAB, 5000])
def test_an_id_beyond_the_text_vocabulary_is_refused(tmp_path, number):
    folder = with_tokens(tmp_path, ("[SEG]", number, True))
    with pytest.raises(CheckpointError, match="ids from 261 on, and the model has 261 for text"):
        HFTextTokenizer(folder, CHATML, TEXT_VOCAB)


def spell_end(document):
    """Pieces that spell a special token, as tables of some models have them."""
    end = document["added_tokens"][2]["content"]
    document["model"]["vocab"][end] = document["added_tokens"][2]["id"]
    pieces = list(end)
    for number in range(1, len(pieces)):
        left = "".join(pieces[:number])
        document["model"]["merges"].append([left, pieces[number]])
        document["model"]["vocab"].setdefault(left, 261 + number)
        document["model"]["vocab"].setdefault(left + pieces[number], 261 + number + 1)


def test_a_control_token_that_pieces_spell_is_not_typed_either(tmp_path):
    text = HFTextTokenizer(with_tokens(tmp_path, change=spell_end), CHATML, 300)
    assert (
        text.end_id not in text.encode("<|im_end|>")
        and text.decode(text.encode("<|im_end|>")) == "<|im_end|>"
    )


def test_unigram_pieces_are_not_control_tokens_either(tmp_path):
    def unigram(document):
        pieces = [["<unk>", 0.0], *([chr(c), -9.0] for c in range(32, 127)), *([t, -1.0] for t in SPECIAL)]
        document["model"] = {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False}
        for token, number in zip(document["added_tokens"], range(96, 99), strict=True):
            token["id"] = number
        document["pre_tokenizer"] = document["decoder"] = None

    text = HFTextTokenizer(with_tokens(tmp_path, change=unigram), CHATML, 99)
    assert text.encode_template("<|im_end|>") == [98]
    assert len(text.encode("<|im_end|>")) == len("<|im_end|>")


def test_settings_that_cut_a_text_are_ignored(tmp_path):
    def cut(document):
        document["truncation"] = {
            "max_length": 3,
            "stride": 0,
            "strategy": "LongestFirst",
            "direction": "Right",
        }

    text = HFTextTokenizer(with_tokens(tmp_path, change=cut), CHATML, TEXT_VOCAB)
    assert len(text.encode("abcdefgh")) == len(text.encode_template("abcdefgh")) == 8


def test_merges_are_the_tokenizers_own(text):
    assert len(text.encode(" point")) == 4


def test_saved_files_give_the_same_ids(text, tmp_path):
    text.save(tmp_path)
    again = HFTextTokenizer(tmp_path, CHATML, TEXT_VOCAB)
    for sentence in (" point 深度 🙂", "  two\n", "<|im_start|>"):
        assert again.encode(sentence) == text.encode(sentence)
        assert again.encode_template(sentence) == text.encode_template(sentence)
    assert vocabulary_size(read_tokenizer(tmp_path)) == TEXT_VOCAB


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="There is no folder .* with the files of a text tokenizer"):
        read_tokenizer(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="The text tokenizer in .* cannot be read"):
        read_tokenizer(tmp_path)


def test_an_end_that_is_no_special_token_is_refused():
    with pytest.raises(CheckpointError, match="end 'over' does not begin with a special token"):
        HFTextTokenizer(tokenizer_folder(), ChatTemplate(user="", assistant="", end="over"), TEXT_VOCAB)


def template_of(tmp_path, jinja):
    return derive_template(read_tokenizer(write_tokenizer(tmp_path, jinja)))


def test_chatml_is_read_from_its_template(tmp_path):
    assert template_of(tmp_path, CHATML_TEMPLATE) == CHATML


def test_a_system_prompt_becomes_the_start(tmp_path):
    system = "<|im_start|>system\nBe brief.<|im_end|>\n"
    assert template_of(tmp_path, system + CHATML_TEMPLATE) == ChatTemplate(
        start=system, user=CHATML.user, assistant=CHATML.assistant, end=CHATML.end
    )


def test_roles_within_brackets(tmp_path):
    jinja = (
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
    )
    assert template_of(tmp_path, jinja) == ChatTemplate(
        start="<s>", user="[INST] ", assistant="[/INST] ", end="</s>"
    )


UNEVEN = CHATML_TEMPLATE.replace("{{ m.content }}", "{% if loop.last %}<think>{% endif %}{{ m.content }}")


@pytest.mark.parametrize("jinja", [None, UNEVEN, "{{ raise_exception('no') }}"])
def test_where_it_cannot_be_read_chatml_serves_those_who_know_its_tokens(tmp_path, jinja):
    assert template_of(tmp_path, jinja) == CHATML


def test_without_chatml_tokens_the_template_must_be_given():
    class Foreign:
        def apply_chat_template(self, turns, tokenize):
            return "".join(turn["content"] for turn in turns)

        def get_vocab(self):
            return {"a": 0}

    with pytest.raises(
        RecipeError, match="cannot be written as start, user, assistant and end; give them: template="
    ):
        derive_template(Foreign())


def test_the_tokenizer_of_bytes_writes_every_text():
    text = HFTextTokenizer(BYTES, CHATML, NUM_BYTES)
    assert vocabulary_size(read_tokenizer(BYTES)) == NUM_BYTES
    for words in ("Which point?", "  é ☃\n", "<|im_end|>"):
        ids = text.encode(words)
        assert len(ids) == len(words.encode()) and text.end_id not in ids
        assert text.decode(ids) == words
    assert text.encode_template("<|im_end|>") == [text.end_id]


def test_a_template_that_writes_the_date_is_refused():
    class Dated:
        chat_template = "{{ strftime_now('%d %b %Y') }}{% for message in messages %}…"

    with pytest.raises(RecipeError, match="chat template writes the date of the day"):
        derive_template(Dated())
