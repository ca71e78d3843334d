"""What a checkpoint says of its streams, so that a tokenizer which writes them otherwise today is noticed.

A recipe names a plugin's tokenizer and its settings; how its stream is written follows from the plugin's code, which
may change between versions. Token ids and rows of the vocabulary would then mean something else.
"""

from collections.abc import Mapping
from typing import Any

from perceptio.errors import CheckpointError
from perceptio.interfaces import Codes, StreamSpec
from perceptio.recipe import Recipe


def stream_facts(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """How each stream is written and what it is learned from, as plain JSON values, in the order of the ids."""
    return {stream.name: _facts(stream.spec) for stream in recipe.streams}


def check_streams(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Refuse a recipe whose tokenizers say something else of their streams than when the checkpoint was written.

    Args:
        recipe: The recipe of the checkpoint, as its components describe it today.
        facts: What the checkpoint says.
        where: The checkpoint, for messages.

    Raises:
        CheckpointError: They differ: which stream, and in what.
    """
    now = stream_facts(recipe)
    if list(now) != list(facts):
        raise CheckpointError(
            f"{where} tells of the streams {', '.join(facts) or 'none'}, and its recipe of "
            f"{', '.join(now) or 'none'}: its files are not of one checkpoint."
        )
    for name, before in facts.items():
        changed = [key for key in {**before, **now[name]} if before.get(key) != now[name].get(key)]
        if changed:
            tokenizer = recipe.stream(name).tokenizer
            said = ", ".join(f"{key} {before.get(key)} and not {now[name].get(key)}" for key in changed)
            raise CheckpointError(
                f"{where} was trained with a stream {name!r} of {said}, as the tokenizer {tokenizer.name} says here: "
                "install the version of its plugin that it was trained with, or train it again."
            )


def _facts(spec: StreamSpec) -> dict[str, Any]:
    written = spec.written
    shared = {
        "per": spec.per,
        "target": spec.target,
        "image_size": None if spec.image_size is None else list(spec.image_size),
    }
    if isinstance(written, Codes):
        return shared | {
            "codebook_sizes": list(written.codebook_sizes),
            "groups": [{"length": group.length, "codebook": group.codebook} for group in written.groups],
            "grid": None if written.grid is None else list(written.grid),
        }
    return shared | {"tokens": list(written.tokens), "rows": written.num_rows, "width": written.width}
