"""What a model will be, as far as its losses and heads may know it: specs and token ids, no part and no weights."""

from collections.abc import Mapping
from typing import Any

import attrs

from perceptio.errors import RecipeError, near_miss
from perceptio.interfaces.language import LanguageSpec
from perceptio.interfaces.tokens import SpecialTokens, StreamSpec, StreamTokens, TokenBlock, TokenSpan
from perceptio.interfaces.vision import VisionSpec


@attrs.frozen(kw_only=True)
class StreamSpecs:
    """What is known of a stream before it is built.

    Attributes:
        tokenizer: The spec of its tokenizer: a `DepthSpec`, a `SegmentationSpec`, or another with a `stream`.
        tokens: Its ids.
    """

    tokenizer: Any
    tokens: StreamTokens

    @property
    def spec(self) -> StreamSpec:
        """How it is written, and what it is learned from."""
        spec: StreamSpec = self.tokenizer.stream
        return spec


@attrs.frozen(kw_only=True)
class ModelSpecs:
    """The one value from which losses and heads are built.

    Attributes:
        vision: Facts of the vision encoder.
        language: Facts of the language backbone.
        streams: Facts of the streams of perception, by name.
        locations: The ids of location tokens, row-major over a grid.
        vocab_size: How many ids there are in all, V.
        heads: The streams that have an auxiliary head, which a loss reads as `"heads.NAME"`.
        levels_of: The stream whose values at marked points are said in levels before an answer; None: none are.
    """

    vision: VisionSpec
    language: LanguageSpec
    streams: Mapping[str, StreamSpecs] = attrs.field(factory=dict)
    locations: TokenSpan
    vocab_size: int
    heads: tuple[str, ...] = ()
    levels_of: str | None = None

    def stream(self, name: str, asker: str) -> StreamSpecs:
        """A stream by its name.

        Args:
            name: The name.
            asker: Who needs it, for the message.

        Raises:
            RecipeError: The model has no such stream.
        """
        if name not in self.streams:
            raise RecipeError(
                f"{asker} is about the stream {name!r}, which the recipe has not{near_miss(name, self.streams)}"
            )
        return self.streams[name]

    def block(self, name: str, asker: str) -> TokenBlock:
        """The ids of a stream that is written as codes.

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
        """The ids of a stream that is written as special tokens.

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
