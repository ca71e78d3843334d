"""The settings of generation."""

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
    """How a model perceives and generates an answer.

    Between blocks the model makes one choice among everything that may come next: another object, one of the next
    streams, or the first token of the text. It chooses again only after it has written an object or a stream.

    Attributes:
        streams: The names of the streams that the model may write, in order. None: all streams of the recipe. Streams
            that are not listed are never written.
        force: Streams that are written in every answer, whatever the model would choose. The model writes other
            streams only if it chooses to.
        readout: Whether marked points are read out, or looked up, before the answer. None: as the recipe's answer
            format says. The format also decides between the two.
        grammar: Whether generation is constrained: blocks hold only codes, text holds none, and a stream comes only
            in its order. Without it every token is chosen from the whole vocabulary, and blocks may be malformed.
        temperature: 0 takes the most likely token. Above 0, tokens are sampled from softmax(logits / temperature)
            over the allowed tokens.
        max_new_tokens: The maximum number of text tokens, at least 1. `Answer.truncated` tells whether the text was
            cut there.
        max_objects: The maximum number of objects that one answer writes per stream, at least 1.
        seed: The seed of sampling.

    Raises:
        InputError: A value is out of range or of the wrong type.
    """

    streams: tuple[str, ...] | None = attrs.field(default=None, validator=_stream_names)
    force: tuple[str, ...] = attrs.field(default=(), validator=_stream_names)
    readout: bool | None = None
    grammar: bool = True
    temperature: float = attrs.field(default=0.0, validator=_temperature)
    max_new_tokens: int = attrs.field(default=32, validator=_whole(1))
    max_objects: int = attrs.field(default=4, validator=_whole(1))
    seed: int = attrs.field(default=0, validator=_whole(0))
