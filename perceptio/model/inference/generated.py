"""What a batch wrote: the records that the decoding loop returns.

Shapes: B rows, D hidden width, L depth codes, K codebook size, s special tokens per object, M mask codes per object,
N objects found, P marked points, T tokens of text, W ids written.
"""

import attrs
from torch import Tensor


@attrs.frozen(kw_only=True, eq=False)
class Objects:
    """The objects that a batch segments, row by row and in order of mention.

    Attributes:
        hidden_NsD: Hidden states that prompt their masks.
        codes_NM: Their mask codes, for a segmentation tokenizer that reads codes; M is 0 otherwise. -1 where, with
            the grammar off, something else was written.
        row_N: The row each belongs to.
    """

    hidden_NsD: Tensor
    codes_NM: Tensor
    row_N: Tensor


@attrs.frozen(kw_only=True, eq=False)
class DepthBlocks:
    """The depth blocks that a batch wrote.

    Attributes:
        opened_B: Rows with a block.
        closed_B: Rows whose likeliest token after the last code was the closing marker.
        codes_BL: The codes; -1 in rows without a block and, with the grammar off, where something else was written.
        logits_BLK: What they were chosen from, for soft decoding; None where codes were given.
    """

    opened_B: Tensor
    closed_B: Tensor
    codes_BL: Tensor
    logits_BLK: Tensor | None = None

    @property
    def whole_B(self) -> Tensor:
        """Rows with a block of nothing but codes."""
        return self.opened_B & (self.codes_BL >= 0).all(1)


@attrs.frozen(kw_only=True, eq=False)
class Generated:
    """What a batch wrote.

    Attributes:
        objects: What was segmented.
        depth: The depth blocks.
        readout_BP: The code read out for each marked point; -1 where a row has fewer points and, with the grammar
            off, where something else was written.
        text_BT: Text ids; after the end token a row holds only end tokens.
        written_BW: Every id after the prompt, in order and without the end token; -1 where a row wrote nothing.
    """

    objects: Objects
    depth: DepthBlocks
    readout_BP: Tensor
    text_BT: Tensor
    written_BW: Tensor
