"""A language backbone without a cache, behind the interface of one with: the control for what the cache saves.

Shapes: B rows, T new slots, S slots so far, A position axes, D hidden width.
"""

import attrs
import torch
from torch import Tensor

from perceptio.interfaces import LanguageBackbone, SequenceLayout, TextTokenizer


@attrs.frozen(eq=False)
class Held:
    """All that was fed so far: inputs [B, S, D], and coordinates and looks [A, B, S]."""

    inputs_BSD: Tensor
    positions_ABS: Tensor
    looks_ABS: Tensor


class Recomputing(LanguageBackbone):
    """Keeps inputs instead of keys and values, and runs the whole sequence again whenever something is fed.

    Args:
        inner: The backbone that it runs.
    """

    def __init__(self, inner: LanguageBackbone) -> None:
        super().__init__()
        self.inner, self.spec = inner, inner.spec

    @property
    def text_tokenizer(self) -> TextTokenizer:
        """See `LanguageBackbone.text_tokenizer`."""
        return self.inner.text_tokenizer

    def embed(self, ids: Tensor) -> Tensor:
        """See `LanguageBackbone.embed`."""
        return self.inner.embed(ids)

    def forward(self, inputs_BTD: Tensor, layout: SequenceLayout, cache: Held | None = None) -> Tensor:
        """See `LanguageBackbone.forward`."""
        assert cache is not None and layout.past_B is not None
        query_positions_ABT = layout.query_positions_ABT
        rows_B1 = torch.arange(len(inputs_BTD), device=inputs_BTD.device)[:, None]
        slots_BT = layout.past_B[:, None] + torch.arange(inputs_BTD.shape[1], device=inputs_BTD.device)
        cache.inputs_BSD[rows_B1, slots_BT] = inputs_BTD
        cache.positions_ABS[:, rows_B1, slots_BT] = layout.positions_ABT
        cache.looks_ABS[:, rows_B1, slots_BT] = (
            layout.positions_ABT if query_positions_ABT is None else query_positions_ABT
        )
        so_far = slice(layout.max_keys)
        whole = SequenceLayout.cached(
            cache.positions_ABS[..., so_far],
            torch.zeros_like(layout.past_B),
            layout.max_keys,
            cache.looks_ABS[..., so_far],
        )
        hidden_BSD = self.inner(cache.inputs_BSD[:, so_far], whole)
        return hidden_BSD[rows_B1, slots_BT]

    def logits(self, hidden: Tensor) -> Tensor:
        """See `LanguageBackbone.logits`."""
        return self.inner.logits(hidden)

    def resize_vocabulary(self, size: int) -> None:
        """See `LanguageBackbone.resize_vocabulary`."""
        self.inner.resize_vocabulary(size)

    def initialize_rows(self, ids: Tensor, rows_ND: Tensor) -> None:
        """See `LanguageBackbone.initialize_rows`."""
        self.inner.initialize_rows(ids, rows_ND)

    def new_cache(self, batch_size: int, max_length: int) -> Held:
        """See `LanguageBackbone.new_cache`; what is held are inputs."""
        like = next(self.parameters())
        coordinates = like.new_zeros(2, self.spec.position_axes, batch_size, max_length, dtype=torch.float32)
        return Held(like.new_zeros(batch_size, max_length, self.spec.hidden_dim), *coordinates)
