"""The simplest head: one linear map."""

from typing import ClassVar

import attrs
from torch import Tensor, nn

from perceptio.interfaces import Head, HeadConfig, Kind, ModelSpecs


class LinearHead(Head):
    """(..., in_dim) -> (..., out_dim): a matrix and a bias."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """See `Head.forward`."""
        return self.linear(x)


@attrs.frozen(kw_only=True)
class LinearHeadConfig(HeadConfig):
    """A linear map with bias."""

    name: ClassVar[str] = "linear"
    kind: ClassVar[Kind] = Kind.HEAD
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def build(self, in_dim: int, out_dim: int, model: ModelSpecs) -> LinearHead:
        """See `HeadConfig.build`."""
        return LinearHead(in_dim, out_dim)
