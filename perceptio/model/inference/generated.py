"""What a batch wrote: the records that the decoding loop returns.

Shapes: B rows, T tokens of text, W ids written, P marked points, and of a stream: O blocks or objects of a row (one
of a stream that is written per image), L codes, K codebook size, n special tokens, D hidden width.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import attrs
import torch
from torch import Tensor


@attrs.frozen(kw_only=True, eq=False)
class WrittenStream:
    """What a batch wrote of one stream.

    Attributes:
        opened_BO: Which rows wrote a first, a second, … one.
        closed_BO: Where the likeliest token after the last code was the closing marker; of special tokens, where they
            were written.
        codes_BOL: The codes, -1 in what was not written and, with the grammar off, where something else was; L is 0
            for special tokens.
        hidden_BOnD: The hidden states that special tokens are read from; n is 0 for codes.
        rows_BOmP: What the stream's head made of them, where it is fed back; None elsewhere.
        logits: What the codes of each step were chosen from, [B, O, l, K]; empty where codes were given.
    """

    opened_BO: Tensor
    closed_BO: Tensor
    codes_BOL: Tensor
    hidden_BOnD: Tensor
    rows_BOmP: Tensor | None = None
    logits: tuple[Tensor, ...] = ()

    @property
    def whole_BO(self) -> Tensor:
        """Where nothing but codes was written between markers, or all special tokens."""
        return self.opened_BO & (self.codes_BOL >= 0).all(2)

    def whole(self) -> list[tuple[int, int, int]]:
        """The row of each that is whole, its number among O, and how many its row opened before it."""
        before = (self.opened_BO.cumsum(1) - self.opened_BO.long()).tolist()
        return [(row, number, before[row][number]) for row, number in self.whole_BO.nonzero().tolist()]

    @classmethod
    def joined(cls, written: Sequence[Self]) -> Self:
        """What was written one after the other, as one record."""

        def together(name: str) -> Tensor:
            return torch.cat([getattr(one, name) for one in written], 1)

        return cls(
            opened_BO=together("opened_BO"),
            closed_BO=together("closed_BO"),
            codes_BOL=together("codes_BOL"),
            hidden_BOnD=together("hidden_BOnD"),
            rows_BOmP=None if written[0].rows_BOmP is None else together("rows_BOmP"),
            logits=tuple(torch.cat(step, 1) for step in zip(*(one.logits for one in written), strict=True)),
        )


@attrs.frozen(kw_only=True, eq=False)
class Generated:
    """What a batch wrote.

    Attributes:
        streams: Of every stream of the model, by name.
        readout_BP: What was said of each marked point, its code or its level; -1 where a row has fewer points or no
            map to look at and, with the grammar off, where something else was written.
        text_BT: Text ids; after the end token a row holds only end tokens.
        written_BW: Every id after the prompt, in order and without the end token; -1 where a row wrote nothing.
    """

    streams: Mapping[str, WrittenStream]
    readout_BP: Tensor
    text_BT: Tensor
    written_BW: Tensor
