"""Language backbones: a causal trunk over embedded sequences, its text tokenizer, and how sequences are laid out.

Shapes: B batch, T positions, A position axes, D hidden width, V vocabulary, N rows.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import attrs
import torch
from torch import Tensor

from perceptio.errors import InterfaceError
from perceptio.interfaces.component import CheckedModule, ComponentConfig


@attrs.frozen(kw_only=True)
class LanguageSpec:
    """Facts of a language backbone that are known without its weights.

    `vocab_size` counts the ids of its own text tokenizer; the token plan allots further ids after them.
    `position_axes` is 1 for plain rotary positions and 3 for (time, row, column).
    `max_length` is the longest sequence that it serves; None: any.
    """

    vocab_size: int
    hidden_dim: int
    position_axes: int
    max_length: int | None = None


@attrs.frozen(kw_only=True, eq=False)
class SequenceLayout:
    """Who sees whom, and where everything lies. It becomes an attention bias in `ops.attention` and nowhere else.

    Two forms. *Packed* (`lengths` set, B == 1): samples one after the other without padding, each causal within
    itself. *Cached* (`past_B` set): T new slots per row after `past_B` keys that the cache already holds; slot i
    of row b sees keys 0 .. past_B[b] + i. Rows may end in slots that count for nothing: nobody before them sees
    them, and the next call writes over them.

    Attributes:
        positions_ABT: Coordinates of each slot, as many axes as the backbone's `position_axes`; float, axis 0 time.
        query_positions_ABT: Coordinates of what each slot predicts, where that is not where its token lies: the
            query is rotated by these, the key by `positions_ABT`. None: the same. A backbone with one axis has no
            use for it.
        lengths: Length of each packed sample; sums to T.
        past_B: int64, keys already in the cache per row, on the device.
        max_keys: Upper bound, known to the host, on keys seen by any row: at most the cache's size.
    """

    positions_ABT: Tensor
    query_positions_ABT: Tensor | None = None
    lengths: tuple[int, ...] | None = None
    past_B: Tensor | None = None
    max_keys: int = 0

    @classmethod
    def packed(
        cls, positions_AT: Tensor, lengths: Sequence[int], query_positions_AT: Tensor | None = None
    ) -> Self:
        """Samples of these lengths in one row."""
        query = None if query_positions_AT is None else query_positions_AT[:, None]
        return cls(positions_ABT=positions_AT[:, None], query_positions_ABT=query, lengths=tuple(lengths))

    @classmethod
    def cached(
        cls, positions_ABT: Tensor, past_B: Tensor, max_keys: int, query_positions_ABT: Tensor | None = None
    ) -> Self:
        """New slots of several rows after what the cache holds; `past_B` is zero for a prefill."""
        return cls(
            positions_ABT=positions_ABT,
            query_positions_ABT=query_positions_ABT,
            past_B=past_B,
            max_keys=max_keys,
        )


@attrs.frozen(kw_only=True)
class ChatTemplate:
    """The strings around a conversation; the text tokenizer knows the special ones as single ids.

    A conversation is `start`, then per turn `user`, the image's features where the turn shows one, the question,
    `assistant`, the answer, `end`. The loss covers the answer and the first token of `end`, which stops generation.
    """

    start: str = ""
    user: str
    before_image: str = ""
    after_image: str = ""
    assistant: str
    end: str


@runtime_checkable
class TextTokenizer(Protocol):
    """Strings <-> ids of the language backbone's own vocabulary; any text can be encoded."""

    template: ChatTemplate
    end_id: int

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special strings of the template become their single ids only via `encode_template`."""
        ...

    def encode_template(self, text: str) -> list[int]:
        """Ids of a string of the template, special tokens recognised."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files from which a checkpoint restores this tokenizer."""
        ...


def _checked_rows(name: str, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Hold the shape of what `embed`, `forward` or `logits` makes to the interface; nothing waits for the device."""

    @functools.wraps(method)
    def checked(self: Any, *given: Any, **named: Any) -> Tensor:
        made = method(self, *given, **named)
        rows = tuple((given or tuple(named.values()))[0].shape)
        wanted = (
            *(rows if name == "embed" else rows[:-1]),
            "V" if name == "logits" else self.spec.hidden_dim,
        )
        shape = tuple(made.shape) if isinstance(made, Tensor) else None
        if (
            shape is None
            or len(shape) != len(wanted)
            or any(size != other for size, other in zip(shape, wanted, strict=True) if other != "V")
        ):
            said = f"a {type(made).__name__}" if shape is None else str(list(shape))
            raise InterfaceError(
                f"{self.known_as}.{name} made {said} of {list(rows)}; it must make [{', '.join(map(str, wanted))}]."
            )
        return made

    return checked


class LanguageBackbone(CheckedModule, ABC):
    """A causal language model in the pieces that a perception model needs. `spec` is set in the constructor."""

    spec: LanguageSpec
    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        name: functools.partial(_checked_rows, name) for name in ("embed", "forward", "logits")
    }

    @property
    @abstractmethod
    def text_tokenizer(self) -> TextTokenizer:
        """The text tokenizer that belongs to these weights."""

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Input rows [..., D] of ids [...]."""

    @abstractmethod
    def forward(self, inputs_BTD: Tensor, layout: SequenceLayout, cache: Any = None) -> Tensor:
        """Hidden states [B, T, D] after the last norm.

        With a cache (a cached layout), keys and values of the T new slots are written at `layout.past_B`.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]: apart, so that only supervised rows are computed."""

    @abstractmethod
    def resize_vocabulary(self, size: int) -> None:
        """Give the vocabulary `size` ids, keeping the text tokenizer's rows bit-identical.

        New rows are drawn around the mean of the old ones at their full standard deviation, so that they differ.
        """

    @abstractmethod
    def initialize_rows(self, ids: Tensor, rows_ND: Tensor) -> None:
        """Set the input rows of new ids, and their output rows where those are not tied.

        `rows_ND` has zero mean and unit variance per width; the backbone brings it to its own scale.
        """

    @abstractmethod
    def new_cache(self, batch_size: int, max_length: int) -> Any:
        """An empty cache for `max_length` keys per row; `layout.past_B` is its cursor.

        It is opaque to everyone else, except that it may be a `SelectableCache`.
        """


@runtime_checkable
class SelectableCache(Protocol):
    """A cache whose rows can be given to others, so that what several rows begin with is computed once.

    `perceptio.ops.kv_cache.KeyValueCache` is one. With a cache that is none, each row is computed for itself.
    """

    def select(self, rows_B: Tensor) -> Self:
        """A cache of its own whose row b holds what row `rows_B[b]` of this one holds."""
        ...


@runtime_checkable
class MergeableAdapters(Protocol):
    """A language backbone whose adapters can become part of the weights that they adapt."""

    def merge(self) -> None:
        """Fold the adapters in, in place; what is left is what the config `without_adapters` builds."""
        ...


@attrs.frozen(kw_only=True)
class LanguageBackboneConfig(ComponentConfig, ABC):
    """Config of a language backbone."""

    @property
    @abstractmethod
    def spec(self) -> LanguageSpec:
        """Facts known without weights."""

    @abstractmethod
    def build(self) -> LanguageBackbone:
        """The backbone with random weights and its own vocabulary, not yet resized."""

    def with_text_tokenizer(self, folder: Path) -> Self:
        """The same config, reading its text tokenizer from the files that `TextTokenizer.save` wrote.

        The default needs no files.
        """
        return self

    def without_adapters(self) -> Self:
        """The config of a backbone whose adapters have been merged; see `MergeableAdapters`.

        The default takes away what is in the field `lora`.
        """
        changes: dict[str, Any] = {"lora": None} if "lora" in attrs.fields_dict(type(self)) else {}
        return attrs.evolve(self, **changes)


def text_positions(start: float, length: int, axes: int) -> Tensor:
    """Coordinates [A, T] of a run of text: equal on all axes, which is ordinary rotary embedding."""
    return torch.arange(start, start + length, dtype=torch.float32).expand(axes, -1)
