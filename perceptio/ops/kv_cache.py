"""The keys and values that a language backbone keeps of what it has seen, for our own decoder and for transformers'.

Shapes: B rows, T new slots, S kept slots, G heads of keys and values, E head width.
"""

from typing import Self

import torch
from torch import Tensor

from perceptio.interfaces import SequenceLayout


class KeyValueCache:
    """Keys and values of every layer, [B, S, G, E] each; a layer's are made, in its precision, when it first writes.

    Args:
        batch_size: Rows, B.
        max_length: Slots that a row has room for, S.
    """

    def __init__(self, batch_size: int, max_length: int) -> None:
        self._size = (batch_size, max_length)
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def write(
        self, layer: int, k_BTGE: Tensor, v_BTGE: Tensor, layout: SequenceLayout
    ) -> tuple[Tensor, Tensor]:
        """Write new slots after what each row holds, without asking the device where.

        Returns:
            All keys and values of the layer.
        """
        assert layout.past_B is not None
        if layer not in self._held:
            k_BSGE, v_BSGE = (x.new_zeros(*self._size, *x.shape[2:]) for x in (k_BTGE, v_BTGE))
            self._held[layer] = (k_BSGE, v_BSGE)
        rows_B1 = torch.arange(k_BTGE.shape[0], device=k_BTGE.device)[:, None]
        slots_BT = layout.past_B[:, None] + torch.arange(k_BTGE.shape[1], device=k_BTGE.device)
        for held_BSGE, new_BTGE in zip(self._held[layer], (k_BTGE, v_BTGE), strict=True):
            held_BSGE[rows_B1, slots_BT] = new_BTGE.to(held_BSGE.dtype)
        return self._held[layer]

    def select(self, rows_B: Tensor) -> Self:
        """See `perceptio.interfaces.SelectableCache.select`."""
        chosen = type(self)(len(rows_B), self._size[1])
        chosen._held = {
            layer: (k_BSGE[rows_B], v_BSGE[rows_B]) for layer, (k_BSGE, v_BSGE) in self._held.items()
        }
        return chosen
