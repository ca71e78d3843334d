"""The cache of keys and values of a language backbone, for this library's decoder and for transformers' models.

Shapes: B rows, T new slots, S kept slots, G heads of keys and values, E head width.
"""

from typing import Self

import torch
from torch import Tensor

from perceptio.interfaces import SequenceLayout

ROOM = 1024
"""Slots that are allocated ahead; a row may end long before its maximum length."""


class KeyValueCache:
    """Keys and values of every layer, [B, S, G, E] each, in its precision; memory is allocated as slots are written.

    Args:
        batch_size: Number of rows, B.
        max_length: Maximum number of slots of a row.
    """

    def __init__(self, batch_size: int, max_length: int) -> None:
        self._size = (batch_size, max_length)
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def write(
        self, layer: int, k_BTGE: Tensor, v_BTGE: Tensor, layout: SequenceLayout
    ) -> tuple[Tensor, Tensor]:
        """Write new slots after the existing ones of each row, without synchronizing with the device.

        Returns:
            All keys and values of the layer, including allocated slots that are not yet used.
        """
        assert layout.past_B is not None
        self._make_room(layer, k_BTGE, v_BTGE, layout.max_keys + k_BTGE.shape[1])
        rows_B1 = torch.arange(k_BTGE.shape[0], device=k_BTGE.device)[:, None]
        slots_BT = layout.past_B[:, None] + torch.arange(k_BTGE.shape[1], device=k_BTGE.device)
        for held_BSGE, new_BTGE in zip(self._held[layer], (k_BTGE, v_BTGE), strict=True):
            held_BSGE[rows_B1, slots_BT] = new_BTGE.to(held_BSGE.dtype)
        return self._held[layer]

    def _make_room(self, layer: int, k_BTGE: Tensor, v_BTGE: Tensor, needed: int) -> None:
        """Allocate slots for `needed` keys: twice as many as before, at first `ROOM` more than needed."""
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
