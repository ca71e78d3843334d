"""A text tokenizer of whole words, on the `tokenizers` library. It encodes any text and decodes it exactly."""

import string
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models

from perceptio.interfaces import ChatTemplate

SPECIAL = ("<|user|>", "<|assistant|>", "<|end|>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
CHARACTERS = tuple(string.printable)
# A unigram model chooses the split with the highest total score: one word beats two, and both beat single characters.
# Six characters beat a byte; otherwise the typed text "<0x41>" would be decoded as "A".
WORD_SCORE, CHARACTER_SCORE, BYTE_SCORE = -1.0, -10.0, -100.0


def pieces_of(words: Sequence[str]) -> list[tuple[str, float]]:
    """Return the pieces and scores of a vocabulary: bytes, ASCII characters, and words with and without a space."""
    scores = dict.fromkeys(BYTES, BYTE_SCORE) | dict.fromkeys(CHARACTERS, CHARACTER_SCORE)
    for word in words:
        scores[" " + word] = WORD_SCORE
        scores.setdefault(word, WORD_SCORE)
    return list(scores.items())


class WordsTokenizer:
    """A text tokenizer that encodes known words as single ids and everything else as characters and bytes.

    Special strings are single ids only in templates. In the text of a user they are ordinary characters.

    Args:
        words: The words and punctuation marks that are single ids, with and without a space before them.
    """

    template = ChatTemplate(user=SPECIAL[0], assistant=SPECIAL[1], end=SPECIAL[2])

    def __init__(self, words: Sequence[str]) -> None:
        model = models.Unigram(pieces_of(words), unk_id=0, byte_fallback=True)
        self._templates = Tokenizer(model)
        self._templates.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        self._templates.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
        self._texts = Tokenizer.from_str(self._templates.to_str())
        self._texts.encode_special_tokens = True
        (self.end_id,) = self.encode_template(SPECIAL[-1])

    @property
    def vocab_size(self) -> int:
        """The number of ids."""
        return self._templates.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """See `TextTokenizer.encode`."""
        return self._texts.encode(text).ids

    def encode_template(self, text: str) -> list[int]:
        """See `TextTokenizer.encode_template`."""
        return self._templates.encode(text).ids

    def decode(self, ids: Sequence[int]) -> str:
        """See `TextTokenizer.decode`."""
        return self._templates.decode(list(ids), skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, which the `tokenizers` library reads."""
        folder.mkdir(parents=True, exist_ok=True)
        self._templates.save(str(folder / "tokenizer.json"))


def vocabulary_size(words: Sequence[str]) -> int:
    """Return the number of ids of a `WordsTokenizer` of these words, without building it."""
    return len(pieces_of(words)) + len(SPECIAL)
