"""The keys and values that a language backbone keeps of what it has seen, for our own decoder and for transformers'.

Shapes: B rows, T new slots, S kept slots, G heads of keys and values, E head width.
"""

from typing import Self

import torch
from torch import Tensor

from perceptio.interfaces import SequenceLayout

ROOM = 1024
"""Slots for which memory is taken ahead; what is written may end long before the length that it may have."""


class KeyValueCache:
    """Keys and values of every layer, [B, S, G, E] each, in its precision; memory is taken as slots are written.

    Args:
        batch_size: Rows, B.
        max_length: Most slots of a row.
    """

    def __init__(self, batch_size: int, max_length: int) -> None:
        self._size = (batch_size, max_length)
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def write(
        self, layer: int, k_BTGE: Tensor, v_BTGE: Tensor, layout: SequenceLayout
    ) -> tuple[Tensor, Tensor]:
        """Write new slots after what each row holds, without asking the device where.

        Returns:
            All keys and values of the layer, and slots for more.
        """
        assert layout.past_B is not None
        self._make_room(layer, k_BTGE, v_BTGE, layout.max_keys + k_BTGE.shape[1])
        rows_B1 = torch.arange(k_BTGE.shape[0], device=k_BTGE.device)[:, None]
        slots_BT = layout.past_B[:, None] + torch.arange(k_BTGE.shape[1], device=k_BTGE.device)
        for held_BSGE, new_BTGE in zip(self._held[layer], (k_BTGE, v_BTGE), strict=True):
            held_BSGE[rows_B1, slots_BT] = new_BTGE.to(held_BSGE.dtype)
        return self._held[layer]

    def _make_room(self, layer: int, k_BTGE: Tensor, v_BTGE: Tensor, needed: int) -> None:
        """Have slots for so many keys: twice as many as before, and `ROOM` more than needed at first."""
        batch_size, max_length = self._size
        held = self._held.get(layer)
        before = 0 if held is None else held[0].shape[1]
        if before >= min(needed, max_length):
            return
        length = min(max(2 * before, needed + ROOM), max_length)
        k_BSGE, v_BSGE = (x.new_zeros(batch_size, length, *x.shape[2:]) for x in held or (k_BTGE, v_BTGE))
        if held is not None:
            k_BSGE[:, :before], v_BSGE[:, :before] = held
        self._held[layer] = (k_BSGE, v_BSGE)

    def select(self, rows_B: Tensor) -> Self:
        """See `perceptio.interfaces.SelectableCache.select`."""
        chosen = type(self)(len(rows_B), self._size[1])
        chosen._held = {
            layer: (k_BSGE[rows_B], v_BSGE[rows_B]) for layer, (k_BSGE, v_BSGE) in self._held.items()
        }
        return chosen
