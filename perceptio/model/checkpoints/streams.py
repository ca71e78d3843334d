"""The description of streams in a checkpoint, to detect tokenizers that have changed since it was written.

A recipe names a plugin's tokenizer and its settings. How its stream is written depends on the plugin's code, which
may change between versions; token ids and vocabulary rows would then have another meaning.
"""

from collections.abc import Mapping
from typing import Any

from perceptio.errors import CheckpointError
from perceptio.interfaces import Codes, StreamSpec
from perceptio.recipe import Recipe


def stream_facts(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return how each stream is written and what it is learned from, as plain JSON values, in the order of ids."""
    return {stream.name: _facts(stream.spec) for stream in recipe.streams}


def check_streams(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Check that the tokenizers describe their streams as they did when the checkpoint was written.

    Args:
        recipe: The recipe of the checkpoint, read with the installed components.
        facts: The description in the checkpoint.
        where: The checkpoint, for messages.

    Raises:
        CheckpointError: They differ. The message names the stream and the differences.
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
