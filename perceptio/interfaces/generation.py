"""How a model perceives and decodes, as a value."""

import math
from collections.abc import Callable
from typing import Any

import attrs

from perceptio.errors import InputError


def _stream_names(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple):
        raise InputError(f"{attribute.name} is {value!r}: it must be a tuple of names, such as ('depth',).")
    if not all(isinstance(name, str) for name in value):
        raise InputError(f"{attribute.name} is {value!r}: it must hold names of streams.")
    if len(set(value)) < len(value):
        raise InputError(f"{attribute.name} is {value!r}: it must name each once.")


def _whole(least: int) -> Callable[[Any, "attrs.Attribute[Any]", Any], None]:
    def check(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
            raise InputError(f"{attribute.name} is {value!r}: it must be a whole number of at least {least}.")

    return check


def _temperature(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"temperature is {value!r}: it must be a finite number of at least 0.")


@attrs.frozen(kw_only=True)
class GenerationSettings:
    """How to perceive and decode.

    What comes next is one choice of the model: another object, the next stream, or the first token of the text. It is
    made once where the model may write any of them, and asked again only after something was written.

    Attributes:
        streams: What may be perceived, by the names of streams, in order; None: all of the recipe's. What is left out
            is never written.
        force: Streams that every answer writes, whatever the model would choose in their place; others that it may
            write, it writes if it chooses to.
        readout: Whether points are read out, or looked up, before the answer; None: as the recipe's answer format
            says, which also says which of the two.
        grammar: Whether a block holds codes and nothing else, text no codes, and what comes next is text or a
            stream that has its turn now or later. Without it every token is chosen from the whole vocabulary, and a
            block may come out malformed.
        temperature: 0 takes the likeliest token; above, tokens are sampled from softmax(logits / temperature) over
            those that may come.
        max_new_tokens: Most tokens of text, at least 1; a text that is cut there says so (`Answer.truncated`).
        max_objects: Most objects that one answer writes of a stream, at least 1.
        seed: For sampling.

    Raises:
        InputError: A value is none of these.
    """

    streams: tuple[str, ...] | None = attrs.field(default=None, validator=_stream_names)
    force: tuple[str, ...] = attrs.field(default=(), validator=_stream_names)
    readout: bool | None = None
    grammar: bool = True
    temperature: float = attrs.field(default=0.0, validator=_temperature)
    max_new_tokens: int = attrs.field(default=32, validator=_whole(1))
    max_objects: int = attrs.field(default=4, validator=_whole(1))
    seed: int = attrs.field(default=0, validator=_whole(0))
