"""The vision projector of InternVL: normalize, then two linear maps with a GELU between them."""

from typing import ClassVar

import attrs
from torch import Tensor, nn

from perceptio.interfaces import Head, HeadConfig, Kind


class MLPHead(Head):
    """(..., in_dim) -> (..., out_dim): LayerNorm, Linear to `out_dim`, GELU, Linear."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(in_dim), nn.Linear(in_dim, out_dim), nn.GELU(), nn.Linear(out_dim, out_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See `Head.forward`."""
        return self.layers(x)


@attrs.frozen(kw_only=True)
class MLPHeadConfig(HeadConfig):
    """The projector with which InternVL brings vision features to the width of its language model."""

    name: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = Kind.HEAD
    interface: ClassVar[tuple[int, int]] = (1, 0)

    def build(self, in_dim: int, out_dim: int) -> MLPHead:
        """See `HeadConfig.build`."""
        return MLPHead(in_dim, out_dim)
