"""Language backbones: a causal transformer over embedded sequences, its text tokenizer, and the sequence layout.

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
    """Facts about a language backbone that are known without its weights.

    Attributes:
        vocab_size: The number of ids of its own text tokenizer. The token plan adds ids after them.
        hidden_dim: The width of hidden states, D.
        position_axes: 1 for plain rotary positions, 3 for (time, row, column).
        max_length: The longest sequence that it supports, in positions. None: any length.
    """

    vocab_size: int
    hidden_dim: int
    position_axes: int
    max_length: int | None = None


@attrs.frozen(kw_only=True, eq=False)
class SequenceLayout:
    """Which slots attend to which, and the position of each slot. Only `ops.attention` converts it to biases.

    A layout has one of two forms:

    - *Packed* (`lengths` is set, B == 1): samples follow one another without padding, and each is causal within
      itself.
    - *Cached* (`past_B` is set): each row has T new slots after the `past_B` keys that the cache already holds. Slot
      i of row b attends to keys 0 .. past_B[b] + i. A row may end in unused slots: no earlier slot attends to them,
      and the next call overwrites them.

    Attributes:
        positions_ABT: The float coordinates of each slot, one axis for each of the backbone's `position_axes`. Axis 0
            is time.
        query_positions_ABT: The coordinates of what each slot predicts, if they differ from those of its token: the
            query is rotated by these, the key by `positions_ABT`. None: the same. A backbone with one axis ignores
            them.
        lengths: The length of each packed sample; they sum to T. In training the last may be padding.
        past_B: int64 on the device, the number of keys that the cache holds for each row.
        max_keys: An upper bound, known on the host, on the number of keys of any row; at most the cache's size.
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
        """Return the layout of samples of these lengths in one row."""
        query = None if query_positions_AT is None else query_positions_AT[:, None]
        return cls(positions_ABT=positions_AT[:, None], query_positions_ABT=query, lengths=tuple(lengths))

    @classmethod
    def cached(
        cls, positions_ABT: Tensor, past_B: Tensor, max_keys: int, query_positions_ABT: Tensor | None = None
    ) -> Self:
        """Return the layout of new slots after the keys that the cache holds; `past_B` is zero for a prefill."""
        return cls(
            positions_ABT=positions_ABT,
            query_positions_ABT=query_positions_ABT,
            past_B=past_B,
            max_keys=max_keys,
        )


@attrs.frozen(kw_only=True)
class ChatTemplate:
    """The strings around the parts of a conversation. The text tokenizer encodes the special ones as single ids.

    A conversation begins with `start`. Each turn then is `user`, the question, `assistant`, the answer, `end`. A turn
    that shows an image has `before_image`, the image's features and `after_image` before its question. The loss
    covers the answer and the first token of `end`, which stops generation.
    """

    start: str = ""
    user: str
    before_image: str = ""
    after_image: str = ""
    assistant: str
    end: str


@runtime_checkable
class TextTokenizer(Protocol):
    """Strings <-> ids of the language backbone's own vocabulary. Any text can be encoded."""

    template: ChatTemplate
    end_id: int

    def encode(self, text: str) -> list[int]:
        """Encode a text. Strings that look like special tokens are ordinary text here; see `encode_template`."""
        ...

    def encode_template(self, text: str) -> list[int]:
        """Encode a string of the template, in which special tokens become their single ids."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text, without special tokens."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files from which a checkpoint restores this tokenizer."""
        ...


def _checked_rows(name: str, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Check the shape of the result of `embed`, `forward` or `logits`; nothing here waits for the device."""

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
    """A causal language model, split into the steps that a perception model needs.

    A subclass sets `spec` in its constructor.
    """

    spec: LanguageSpec
    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {
        name: functools.partial(_checked_rows, name) for name in ("embed", "forward", "logits")
    }

    @property
    @abstractmethod
    def text_tokenizer(self) -> TextTokenizer:
        """The text tokenizer of these weights."""

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Return the input embeddings [..., D] of ids [...]."""

    @abstractmethod
    def forward(self, inputs_BTD: Tensor, layout: SequenceLayout, cache: Any = None) -> Tensor:
        """Return the hidden states [B, T, D] after the last norm.

        With a cache, and so a cached layout, the keys and values of the T new slots are written at `layout.past_B`.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits [..., V] of hidden states [..., D]; callers pass only the rows that they need."""

    @abstractmethod
    def resize_vocabulary(self, size: int) -> None:
        """Resize the vocabulary to `size` ids; the rows of the text tokenizer's ids stay bit-identical.

        New rows are drawn around the mean of the old rows with their full standard deviation, so that they differ.
        """

    @abstractmethod
    def initialize_rows(self, ids: Tensor, rows_ND: Tensor) -> None:
        """Set the input embeddings of new ids, and their output embeddings if these are not tied.

        `rows_ND` has zero mean and unit variance per column; the backbone rescales it to its own embeddings.
        """

    @abstractmethod
    def new_cache(self, batch_size: int, max_length: int) -> Any:
        """Return an empty cache for `max_length` keys per row; `layout.past_B` is the write position.

        Callers treat it as opaque, except that it may be a `SelectableCache`.
        """


@runtime_checkable
class SelectableCache(Protocol):
    """A cache whose rows can be copied to other rows, so that a prefix shared by several rows is computed once.

    `perceptio.ops.kv_cache.KeyValueCache` is one. With any other cache the prefix is computed once per row.
    """

    def select(self, rows_B: Tensor) -> Self:
        """Return an independent cache whose row b holds a copy of row `rows_B[b]` of this one."""
        ...


@runtime_checkable
class MergeableAdapters(Protocol):
    """A language backbone whose adapters can be merged into the weights that they adapt."""

    def merge(self) -> None:
        """Merge the adapters in place; afterwards the modules are those that the config `without_adapters` builds."""
        ...


@attrs.frozen(kw_only=True)
class LanguageBackboneConfig(ComponentConfig, ABC):
    """Config of a language backbone."""

    @property
    @abstractmethod
    def spec(self) -> LanguageSpec:
        """Facts about the backbone that are known without its weights."""

    @abstractmethod
    def build(self) -> LanguageBackbone:
        """Build the backbone with random weights and its own vocabulary, not yet resized."""

    def with_text_tokenizer(self, folder: Path) -> Self:
        """Return the config that reads its text tokenizer from the files that `TextTokenizer.save` wrote.

        The default implementation returns the config itself, for text tokenizers without files.
        """
        return self

    def without_adapters(self) -> Self:
        """Return the config of the backbone after its adapters were merged; see `MergeableAdapters`.

        The default implementation sets the field `lora`, if there is one, to None.
        """
        changes: dict[str, Any] = {"lora": None} if "lora" in attrs.fields_dict(type(self)) else {}
        return attrs.evolve(self, **changes)


def text_positions(start: float, length: int, axes: int) -> Tensor:
    """Return the coordinates [A, T] of a run of text: equal on all axes, which gives ordinary rotary embeddings."""
    return torch.arange(start, start + length, dtype=torch.float32).expand(axes, -1)
