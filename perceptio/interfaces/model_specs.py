"""The specs and token ids of a model, from which its losses and heads are built; no modules and no weights."""

from collections.abc import Mapping
from typing import Any

import attrs

from perceptio.errors import RecipeError, near_miss
from perceptio.interfaces.language import LanguageSpec
from perceptio.interfaces.tokens import SpecialTokens, StreamSpec, StreamTokens, TokenBlock, TokenSpan
from perceptio.interfaces.vision import VisionSpec


@attrs.frozen(kw_only=True)
class StreamSpecs:
    """What is known about a stream before it is built.

    Attributes:
        tokenizer: The spec of its tokenizer: a `DepthSpec`, a `SegmentationSpec`, or any value with a `stream`.
        tokens: The token ids of the stream.
    """

    tokenizer: Any
    tokens: StreamTokens

    @property
    def spec(self) -> StreamSpec:
        """How the stream is written and what it is learned from."""
        spec: StreamSpec = self.tokenizer.stream
        return spec


@attrs.frozen(kw_only=True)
class ModelSpecs:
    """The facts about a model from which its losses and heads are built.

    Attributes:
        vision: The spec of the vision encoder.
        language: The spec of the language backbone.
        streams: The specs of the perception streams, by name.
        locations: The ids of the location tokens, row-major over a grid.
        vocab_size: The total number of ids, V.
        heads: The streams that have an auxiliary head, which a loss reads as `"heads.NAME"`.
        levels_of: The stream whose values at marked points are written as levels before an answer; None if there is
            none.
    """

    vision: VisionSpec
    language: LanguageSpec
    streams: Mapping[str, StreamSpecs] = attrs.field(factory=dict)
    locations: TokenSpan
    vocab_size: int
    heads: tuple[str, ...] = ()
    levels_of: str | None = None

    def stream(self, name: str, asker: str) -> StreamSpecs:
        """Return the specs of a stream.

        Args:
            name: The name of the stream.
            asker: The name of the component that needs it, for the error message.

        Raises:
            RecipeError: The model has no such stream.
        """
        if name not in self.streams:
            raise RecipeError(
                f"{asker} is about the stream {name!r}, which the recipe has not{near_miss(name, self.streams)}"
            )
        return self.streams[name]

    def block(self, name: str, asker: str) -> TokenBlock:
        """Return the ids of a stream that is written as codes; the arguments are those of `stream`.

        Raises:
            RecipeError: The model has no such stream, or it is written as special tokens.
        """
        tokens = self.stream(name, asker).tokens
        if not isinstance(tokens, TokenBlock):
            raise RecipeError(
                f"{asker} is about codes, and the stream {name!r} is written as special tokens; leave it out."
            )
        return tokens

    def special_tokens(self, name: str, asker: str) -> SpecialTokens:
        """Return the ids of a stream that is written as special tokens; the arguments are those of `stream`.

        Raises:
            RecipeError: The model has no such stream, or it is written as codes.
        """
        tokens = self.stream(name, asker).tokens
        if not isinstance(tokens, SpecialTokens):
            raise RecipeError(
                f"{asker} is about what special tokens decode to, and the stream {name!r} is written as codes; leave "
                "it out."
            )
        return tokens
