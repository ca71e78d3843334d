"""The records that the decoding loop returns.

Shapes: B rows, T tokens of text, W ids written, P marked points. Of a stream: O blocks or objects of a row (1 for a
stream that is written per image), L codes, K codebook size, n special tokens, D hidden width.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import attrs
import torch
from torch import Tensor


@attrs.frozen(kw_only=True, eq=False)
class WrittenStream:
    """What the rows of a batch wrote of one stream.

    Attributes:
        opened_BO: Whether each row wrote a first, a second, … block or object.
        closed_BO: Whether the most likely token after the last code was the closing marker. For special tokens,
            whether they were written.
        codes_BOL: The codes, -1 if nothing was written or, without the grammar, something other than a code. L is 0
            for special tokens.
        hidden_BOnD: The hidden states that are read for special tokens; n is 0 for codes.
        rows_BOmP: The output of the stream's head for these states, if the stream is fed back; otherwise None.
        logits: For each step, the logits [B, O, l, K] from which its codes were chosen; empty if codes were given.
    """

    opened_BO: Tensor
    closed_BO: Tensor
    codes_BOL: Tensor
    hidden_BOnD: Tensor
    rows_BOmP: Tensor | None = None
    logits: tuple[Tensor, ...] = ()

    @property
    def whole_BO(self) -> Tensor:
        """Whether each block holds only codes between its markers, or all special tokens were written."""
        return self.opened_BO & (self.codes_BOL >= 0).all(2)

    def whole(self) -> list[tuple[int, int, int]]:
        """For each complete block or object, return its row, its number among O, and the number before it."""
        before = (self.opened_BO.cumsum(1) - self.opened_BO.long()).tolist()
        return [(row, number, before[row][number]) for row, number in self.whole_BO.nonzero().tolist()]

    @classmethod
    def joined(cls, written: Sequence[Self]) -> Self:
        """Join the records of blocks or objects that were written one after another."""

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
    """What the rows of a batch wrote.

    Attributes:
        streams: What was written of every stream of the model, by name.
        readout_BP: The code or level written for each marked point. -1 if a row has fewer points or no map, or if,
            without the grammar, something else was written.
        text_BT: The ids of the text. After its end token a row holds only end tokens.
        written_BW: All ids after the prompt, in order and without the end token; -1 where a row wrote nothing.
    """

    streams: Mapping[str, WrittenStream]
    readout_BP: Tensor
    text_BT: Tensor
    written_BW: Tensor
