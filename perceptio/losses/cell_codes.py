"""An auxiliary loss: predict the code of every grid cell of an image directly from the vision features.

Shapes: B images, M vision features of all images, L grid cells, K codebook size.
"""

from collections.abc import Mapping
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    Batch,
    CodeGroup,
    Kind,
    Loss,
    LossValue,
    ModelSpecs,
    PerceptionOutput,
    StreamLossConfig,
)


class CellCodes(Loss):
    """Cross-entropy of each cell's code under the head's logits at the nearest vision feature, summed over cells.

    Every cell of an image with codes counts once, whatever the resolution of the features. If features are coarser
    than cells, one feature predicts several cells, and its best prediction is the mixture of their codes.

    Args:
        stream: The name of the stream.
        group: The last group of codes, which is the finest; its centers are the cells.
    """

    centers_L2: Tensor

    def __init__(self, stream: str, group: CodeGroup) -> None:
        super().__init__()
        self.stream = stream
        self.required_outputs = ("vision", f"heads.{stream}")
        self.register_buffer("centers_L2", torch.tensor(group.centers), persistent=False)

    def count(self, batch: Batch) -> int:
        """Return the number of cells of images with codes."""
        stream = batch.streams.get(self.stream)
        return 0 if stream is None else len(self.centers_L2) * sum(stream.coded)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        assert output.vision is not None
        logits_BLK = output.heads[self.stream].float()[output.vision.nearest_to(self.centers_L2)]
        codes_BL = self._codes(batch)
        hits = (logits_BLK.argmax(-1) == codes_BL).sum()
        total = F.cross_entropy(
            logits_BLK.flatten(0, 1), codes_BL.flatten(), ignore_index=-1, reduction="sum"
        )
        return LossValue(total=total, count=self.count(batch), metrics={"cell_accuracy": hits})

    def _codes(self, batch: Batch) -> Tensor:
        """Return the codes of the last group [B, L], -1 for images without codes."""
        return batch.streams[self.stream].image_codes_BL[:, -len(self.centers_L2) :]


@attrs.frozen(kw_only=True)
class CellCodesConfig(StreamLossConfig):
    """Cross-entropy of each cell's code from its vision feature, through the auxiliary head of the stream."""

    name: ClassVar[str] = "cell_codes"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)
    retired: ClassVar[Mapping[str, str]] = {"grid": "it is the tokenizer's"}

    def build(self, model: ModelSpecs) -> CellCodes:
        """See `LossConfig.build`.

        Raises:
            RecipeError: There is no such stream, or its codes have no positions on the image.
        """
        asker = f"the loss {self.name}"
        block = model.block(self.stream, asker)
        group = block.groups[-1]
        if block.per == "object" or not group.centers:
            raise RecipeError(
                f"{asker} reads codes at their places on the image, and those of the stream {self.stream!r} have "
                "none; leave it out."
            )
        return CellCodes(self.stream, group)
