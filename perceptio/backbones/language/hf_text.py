"""The text tokenizer of a transformers checkpoint, and its chat template."""

import json
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from perceptio.errors import CheckpointError, RecipeError
from perceptio.interfaces import ChatTemplate
from perceptio.ops.foreign import parsing

logger = logging.getLogger(__name__)

CHATML = ChatTemplate(
    user="<|im_start|>user\n", assistant="<|im_end|>\n<|im_start|>assistant\n", end="<|im_end|>\n"
)
"""The chat template of Qwen and InternLM2.5, without a system prompt (as in Sa2VA)."""

BYTES = Path(__file__).parent / "bytes"
"""The folder of a text tokenizer of single bytes, which comes with the library for very small models."""

NUM_BYTES = 259
"""The number of its ids: the bytes, and the special tokens of `CHATML`."""


class HFTextTokenizer:
    """A text tokenizer that transformers reads. The text of a user never becomes a control token.

    Args:
        folder: The folder of its files, such as `tokenizer.json` and `tokenizer_config.json`.
        template: The strings around the parts of a conversation.
        vocab_size: The number of ids that it may use.

    Raises:
        CheckpointError: The files cannot be read, an id is not below `vocab_size`, user text could become a control
            token, or the template's `end` does not begin with a special token.
    """

    def __init__(self, folder: Path, template: ChatTemplate, vocab_size: int) -> None:
        self._tokenizer = read_tokenizer(folder)
        with parsing(CheckpointError, f"The text tokenizer in {folder} cannot be used ({{reason}})."):
            self._templates: Tokenizer = self._tokenizer.backend_tokenizer
            self._templates.no_truncation()
            self._templates.no_padding()
            _check_ids(self._templates, folder, vocab_size)
            self._texts = _without_controls(self._templates)
            _check_unreachable(self._templates, self._texts, folder)
            self.template = template
            end = self.encode_template(template.end)
            if not end or self.decode(end[:1]):
                raise CheckpointError(
                    f"The template's end {template.end!r} does not begin with a special token of the text tokenizer "
                    f"in {folder}; set template to the strings of this checkpoint."
                )
            self.end_id = end[0]

    def encode(self, text: str) -> list[int]:
        """See `TextTokenizer.encode`."""
        return self._texts.encode(text, add_special_tokens=False).ids

    def encode_template(self, text: str) -> list[int]:
        """See `TextTokenizer.encode_template`."""
        return self._templates.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """See `TextTokenizer.decode`."""
        return self._templates.decode(list(ids), skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        """Write the files from which `HFTextTokenizer` and transformers read it."""
        self._tokenizer.save_pretrained(folder)

    def save_with(self, folder: Path, added: Sequence[str], first_id: int) -> None:
        """Write the files of a copy with added special tokens, whose ids begin at `first_id`.

        Raises:
            CheckpointError: The tokenizer would assign other ids.
        """
        self.save(folder)
        tokenizer = read_tokenizer(folder)
        tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in added])
        found = tokenizer.convert_tokens_to_ids(list(added))
        if found != list(range(first_id, first_id + len(added))):
            raise CheckpointError(
                f"The text tokenizer gives the added tokens the ids {found[:3]}…, and the model's begin at "
                f"{first_id}: a name is taken, given twice, or text_vocab_size is not the number of its ids."
            )
        tokenizer.save_pretrained(folder)


def read_tokenizer(folder: Path) -> Any:
    """Read the transformers tokenizer of a folder.

    Raises:
        CheckpointError: The folder has no tokenizer, or one that is not based on the `tokenizers` library.
    """
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise CheckpointError(f"There is no folder {folder} with the files of a text tokenizer.")
    with parsing(CheckpointError, f"The text tokenizer in {folder} cannot be read ({{reason}})."):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(f"The text tokenizer in {folder} has no tokenizer.json; convert it to one.")
    return tokenizer


def _controls(tokenizer: Tokenizer) -> dict[int, str]:
    """Return the added tokens by id, special or not: they can steer a model. Plain whitespace is left out."""
    added = tokenizer.get_added_tokens_decoder()
    pieces = tokenizer.get_vocab(False)
    return {
        number: token.content
        for number, token in added.items()
        if not (token.content.isspace() and pieces.get(token.content) == number)
    }


def _check_ids(tokenizer: Tokenizer, folder: Path, vocab_size: int) -> None:
    beyond = [name for name, number in tokenizer.get_vocab(True).items() if number >= vocab_size]
    if beyond:
        raise CheckpointError(
            f"The text tokenizer in {folder} gives {sorted(beyond)[0][:40]!r} and {len(beyond) - 1} others ids from "
            f"{vocab_size} on, and the model has {vocab_size} for text: the ids after them belong to perception. "
            "Copy the text tokenizer's files again, or set text_vocab_size where the model is described."
        )


def _without_controls(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer for which added tokens are ordinary text: it lacks them, and no piece spells them."""
    document = json.loads(tokenizer.to_str())
    steering = _controls(tokenizer)
    controls = {content for content in steering.values() if len(content) > 1}
    document["added_tokens"] = [one for one in document["added_tokens"] if one["id"] not in steering]
    document["post_processor"] = None
    model = document["model"]
    controls.discard(model.get("unk_token"))
    if isinstance(model["vocab"], list):
        # The id of a piece is its position, so the piece is replaced by a string that no user types.
        model["vocab"] = [
            [f"\uffff{secrets.token_hex(8)}" if piece in controls else piece, score]
            for piece, score in model["vocab"]
        ]
    else:
        model["vocab"] = {piece: number for piece, number in model["vocab"].items() if piece not in controls}
    if "merges" in model:
        model["merges"] = [pair for pair in model["merges"] if not controls & {*pair, "".join(pair)}]
    return Tokenizer.from_str(json.dumps(document))


def _check_unreachable(templates: Tokenizer, texts: Tokenizer, folder: Path) -> None:
    """Check that the tokenizer for texts never encodes user text as a control token."""
    controls = _controls(templates)
    for content in controls.values():
        if len(content) > 1 and not controls.keys().isdisjoint(
            texts.encode(content, add_special_tokens=False).ids
        ):
            raise CheckpointError(
                f"The text tokenizer in {folder} writes the typed text {content[:40]!r} with a control token, so "
                "that a user could steer the model: take a tokenizer whose pieces do not spell its special tokens."
            )


def vocabulary_size(tokenizer: Any) -> int:
    """Return the number of ids that a transformers tokenizer uses, including gaps."""
    return 1 + max(tokenizer.get_vocab().values())


def derive_template(tokenizer: Any) -> ChatTemplate:
    """Convert a transformers tokenizer's chat template to a `ChatTemplate`.

    Two rendered turns show the strings before a question, before an answer and after it. A template that renders the
    last turn differently, or adds anything else, cannot be converted. The result is then `CHATML`, if the tokenizer
    has the tokens of ChatML.

    Raises:
        RecipeError: Neither is possible, or the template depends on the date.
    """
    if "strftime_now" in str(getattr(tokenizer, "chat_template", None)):
        raise RecipeError(
            "The checkpoint's chat template writes the date of the day, so that no two days would train or ask "
            "alike; give its strings with a date of your choice: template=…."
        )
    marks = ("«question»", "«answer»", "«question again»", "«answer again»")
    roles = ("user", "assistant") * 2
    turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    try:
        rest = tokenizer.apply_chat_template(turns, tokenize=False)
        pieces = []
        for mark in marks:
            piece, _, rest = rest.partition(mark)
            pieces.append(piece)
    except Exception as error:
        logger.info("The chat template cannot render two turns (%s).", error)
        pieces, rest = ["", "", "", "-"], ""
    before, assistant, between, assistant_again = pieces
    end, user = rest, between.removeprefix(rest)
    if assistant == assistant_again and end and between == end + user and before.endswith(user):
        return ChatTemplate(start=before.removesuffix(user), user=user, assistant=assistant, end=end)
    if {"<|im_start|>", "<|im_end|>"} <= tokenizer.get_vocab().keys():
        return CHATML
    raise RecipeError(
        "The checkpoint's chat template cannot be written as start, user, assistant and end; give them: template=…."
    )
