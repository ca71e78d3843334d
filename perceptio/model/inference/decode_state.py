"""The decoding state of a batch whose rows may write different numbers of tokens.

Slots are appended to all rows at once, with a `keep` mask of the rows that have them. Before a step, the kept slots
of every row are moved to the front, so that they follow the row's keys in the cache without gaps. All state consists
of tensors on the model's device, and nothing here waits for the device.

Shapes: B rows, T new slots, A position axes, D hidden width.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from perceptio.interfaces import LanguageBackbone, SelectableCache, SequenceLayout
from perceptio.model.inference.sequence import Position, SequenceWriter, Slot, stacked_coordinates

NOWHERE = Position(float("nan"), float("nan"))


@attrs.frozen(eq=False)
class _Appended:
    """Slots that the next step will run. The position of a slot is NaN if it has only a time.

    `inputs_BTD`, if given, replace the embeddings of the ids.
    """

    ids_BT: Tensor
    positions_BT2: Tensor
    query_positions_BT2: Tensor
    advances_BT: Tensor
    keep_BT: Tensor
    inputs_BTD: Tensor | None = None


class DecodeState:
    """The state of a batch of rows: the cache and, for each row, its length, its time and its last hidden state.

    Args:
        language: The language backbone.
        prompts: One written prompt per row.
        vision_rows: The projected vision features of each row's prompt, in order; empty if no prompt has an image.
        max_new_slots: The maximum number of slots after a prompt.
        image_index: The index of each row's image. Rows with the same image share a prefix up to its last feature.
            The prefix is run once if the backbone's cache is a `SelectableCache`. None: each row is run separately.
    """

    def __init__(
        self,
        language: LanguageBackbone,
        prompts: Sequence[SequenceWriter],
        vision_rows: Sequence[Tensor],
        max_new_slots: int,
        image_index: Sequence[int] | None = None,
    ) -> None:
        self.language = language
        self.device = next(language.parameters()).device
        self.size = len(prompts)
        self._appended: list[_Appended] = []
        lengths = [len(prompt.ids) for prompt in prompts]
        self.max_keys = max(lengths)
        self.past_B = torch.tensor(lengths, device=self.device)
        self.time_B = torch.tensor([prompt.time for prompt in prompts], device=self.device)
        self.origin_B = torch.tensor([prompt.origin for prompt in prompts], device=self.device)
        starts, self.cache = self._run_beginnings(prompts, vision_rows, max_new_slots, image_index)
        if self.cache is None:
            self.cache = language.new_cache(self.size, self.max_keys + max_new_slots)
        hidden_BTD = self._run(prompts, vision_rows, starts, lengths, self.cache)
        last_B = self.past_B - 1 - torch.tensor(starts, device=self.device)
        self.last_BD = hidden_BTD[torch.arange(self.size, device=self.device), last_B]

    def _run_beginnings(
        self,
        prompts: Sequence[SequenceWriter],
        vision_rows: Sequence[Tensor],
        max_new_slots: int,
        image_index: Sequence[int] | None,
    ) -> tuple[list[int], Any]:
        """Run the prefixes that rows share; return the length of each row's prefix and the cache that holds them.

        If nothing can be shared, the lengths are 0 and the cache is None.
        """
        nothing = [0] * self.size, None
        if image_index is None or len(set(image_index)) == self.size:
            return nothing
        images = sorted(set(image_index))
        firsts = [list(image_index).index(image) for image in images]
        ends = [prompts[row].vision_rows[-1] + 1 for row in firsts]
        starts = [ends[images.index(image)] for image in image_index]
        longest_rest = max(len(prompt.ids) - start for prompt, start in zip(prompts, starts, strict=True))
        cache = self.language.new_cache(len(firsts), max(ends) + longest_rest + max_new_slots)
        if not isinstance(cache, SelectableCache):
            return nothing
        self._run(
            [prompts[row] for row in firsts],
            [vision_rows[row] for row in firsts],
            [0] * len(firsts),
            ends,
            cache,
        )
        rows_B = torch.tensor([images.index(image) for image in image_index], device=self.device)
        return starts, cache.select(rows_B)

    def _run(
        self,
        prompts: Sequence[SequenceWriter],
        vision_rows: Sequence[Tensor],
        starts: Sequence[int],
        ends: Sequence[int],
        cache: Any,
    ) -> Tensor:
        """Run slots `start` to `end` of every prompt after its keys in the cache; return hidden states [B, T, D]."""
        longest, axes = (
            max(e - s for s, e in zip(starts, ends, strict=True)),
            self.language.spec.position_axes,
        )
        ids_BT = torch.zeros(len(prompts), longest, dtype=torch.long)
        positions_ABT, query_positions_ABT = torch.zeros(2, axes, len(prompts), longest)
        rows, columns, features = [], [], []
        for row, (prompt, start, end) in enumerate(zip(prompts, starts, ends, strict=True)):
            here = slice(start, end)
            ids_BT[row, : end - start] = torch.tensor(prompt.ids[here])
            positions_ABT[:, row, : end - start] = stacked_coordinates(prompt.positions, axes)[:, here]
            query_positions_ABT[:, row, : end - start] = stacked_coordinates(prompt.query_positions, axes)[
                :, here
            ]
            if start == 0 and prompt.vision_rows:
                rows += [row] * len(prompt.vision_rows)
                columns += prompt.vision_rows
                features.append(vision_rows[row])
        inputs_BTD = self.language.embed(ids_BT.to(self.device))
        if rows:
            inputs_BTD = inputs_BTD.index_put(
                (torch.tensor(rows, device=self.device), torch.tensor(columns, device=self.device)),
                torch.cat(features).to(inputs_BTD.dtype),
            )
        layout = SequenceLayout.cached(
            positions_ABT.to(self.device),
            torch.tensor(starts, device=self.device),
            max(ends),
            query_positions_ABT.to(self.device),
        )
        return self.language(inputs_BTD, layout, cache)

    @property
    def all_rows(self) -> Tensor:
        """A `keep` mask [B] of all rows."""
        return torch.ones(self.size, dtype=torch.bool, device=self.device)

    def append(
        self,
        slots: Sequence[Slot],
        keep_B: Tensor,
        ids_BT: Tensor | None = None,
        inputs_BTD: Tensor | None = None,
    ) -> None:
        """Append the same slots to every kept row.

        Args:
            slots: The slots.
            keep_B: The rows to which they are appended.
            ids_BT: Ids that replace those of the slots, row by row.
            inputs_BTD: Inputs that replace the embeddings of the ids.
        """
        self.append_rows([slots], keep_B, ids_BT, inputs_BTD)

    def append_rows(
        self,
        rows: Sequence[Sequence[Slot]],
        keep_B: Tensor,
        ids_BT: Tensor | None = None,
        inputs_BTD: Tensor | None = None,
    ) -> None:
        """Append to every kept row its own slots, the same number for all rows; see `append`."""

        def tensor(values: Sequence[Sequence[object]]) -> Tensor:
            value = torch.tensor(values).to(self.device, non_blocking=True)
            return value.expand(self.size, *value.shape[1:])

        self._appended.append(
            _Appended(
                ids_BT=tensor([[slot.token for slot in row] for row in rows]) if ids_BT is None else ids_BT,
                positions_BT2=tensor([[slot.position or NOWHERE for slot in row] for row in rows]),
                query_positions_BT2=tensor(
                    [[slot.query_position or slot.position or NOWHERE for slot in row] for row in rows]
                ),
                advances_BT=tensor([[float(slot.advances_time) for slot in row] for row in rows]),
                keep_BT=keep_B[:, None].expand(self.size, len(rows[0])),
                inputs_BTD=inputs_BTD,
            )
        )

    def step(self, count: int = 1) -> Tensor:
        """Run all slots appended since the last step; return the hidden states [B, count, D] of rows' last slots.

        The last state of every row is its latest, from this step or an earlier one. The other states are meaningless
        for rows with fewer than `count` new slots.
        """
        if not self._appended:
            assert count == 1, "Nothing was appended whose hidden states could be read."
            return self.last_BD[:, None]
        ids_BT, positions_BT2, query_positions_BT2, advances_BT, keep_BT = (
            torch.cat([getattr(slots, field.name) for slots in self._appended], 1)
            for field in attrs.fields(_Appended)
            if field.name != "inputs_BTD"
        )
        inputs_BTD = self._given_inputs()
        self._appended.clear()
        order_BT = (~keep_BT).to(torch.uint8).argsort(dim=1, stable=True)
        ids_BT, advances_BT, keep_BT = (x.gather(1, order_BT) for x in (ids_BT, advances_BT, keep_BT))
        order_BT2 = order_BT[..., None].expand(-1, -1, 2)
        positions_BT2, query_positions_BT2 = (
            x.gather(1, order_BT2) for x in (positions_BT2, query_positions_BT2)
        )
        time_BT = self.time_B[:, None] + (advances_BT * keep_BT).cumsum(1)
        self.max_keys += ids_BT.shape[1]
        layout = SequenceLayout.cached(
            self._coordinates(time_BT, positions_BT2),
            self.past_B,
            self.max_keys,
            self._coordinates(time_BT, query_positions_BT2),
        )
        if inputs_BTD is None:
            inputs_BTD = self.language.embed(ids_BT)
        else:
            inputs_BTD = inputs_BTD.gather(1, order_BT[..., None].expand_as(inputs_BTD))
        hidden_BTD = self.language(inputs_BTD, layout, self.cache)
        new_B = keep_BT.sum(1)
        self.time_B = time_BT[:, -1]
        self.past_B = self.past_B + new_B
        wanted_BT = (new_B[:, None] - count + torch.arange(count, device=self.device)).clamp_min(0)
        tail_BTD = hidden_BTD.gather(1, wanted_BT[..., None].expand(-1, -1, hidden_BTD.shape[-1]))
        self.last_BD = torch.where((new_B > 0)[:, None], tail_BTD[:, -1], self.last_BD)
        return torch.cat([tail_BTD[:, :-1], self.last_BD[:, None]], 1)

    def _given_inputs(self) -> Tensor | None:
        """Return the inputs of the appended slots, or None if all are the embeddings of their ids."""
        if all(slots.inputs_BTD is None for slots in self._appended):
            return None
        embedded = [(self.language.embed(slots.ids_BT), slots.inputs_BTD) for slots in self._appended]
        return torch.cat(
            [
                own_BTD if given_BTD is None else given_BTD.to(own_BTD.dtype)
                for own_BTD, given_BTD in embedded
            ],
            1,
        )

    def _coordinates(self, time_BT: Tensor, positions_BT2: Tensor) -> Tensor:
        if self.language.spec.position_axes == 1:
            steps_T = torch.arange(time_BT.shape[1], device=self.device)
            return (self.past_B[:, None] + steps_T).to(torch.float32)[None]
        in_image_BT2 = positions_BT2 + self.origin_B[:, None, None]
        in_image_BT2 = torch.where(in_image_BT2.isnan(), time_BT[..., None], in_image_BT2)
        return torch.cat([time_BT[..., None], in_image_BT2], -1).permute(2, 0, 1)
