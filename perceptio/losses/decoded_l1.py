"""L1 loss between the map that a stream of special tokens decodes to and the true map.

CoVT uses it for depth and edges (arXiv 2511.19418). Its code weights depth, in the units of its teacher, with 0.005,
and edges, in [0, 1], with 1.0.
"""

from typing import ClassVar

import attrs

from perceptio.interfaces import (
    Batch,
    Kind,
    LossValue,
    ModelSpecs,
    PerceptionOutput,
    StreamLoss,
    StreamLossConfig,
)
from perceptio.losses.soft_reconstruction import known_difference, mean_known


class DecodedL1(StreamLoss):
    """Absolute error, averaged over each block's known values and summed over blocks."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, "decoded")

    def count(self, batch: Batch) -> int:
        """Return the number of blocks with a known map."""
        return self.num_known(batch)

    def forward(self, output: PerceptionOutput, batch: Batch) -> LossValue:
        """See `Loss.forward`."""
        difference, known = known_difference(*self.compared(output, batch))
        return LossValue(total=mean_known(difference.abs(), known).sum(), count=self.count(batch))


@attrs.frozen(kw_only=True)
class DecodedL1Config(StreamLossConfig):
    """Mean absolute error of what special tokens decode to, for tensors of any shape [N, ...]."""

    name: ClassVar[str] = "decoded_l1"
    kind: ClassVar[Kind] = Kind.LOSS
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def build(self, model: ModelSpecs) -> DecodedL1:
        """See `LossConfig.build`."""
        model.special_tokens(self.stream, f"the loss {self.name}")
        return DecodedL1(self.stream)
