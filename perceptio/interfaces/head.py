"""Heads: small trained maps between vector widths."""

from abc import ABC, abstractmethod

import attrs
from torch import Tensor, nn

from perceptio.interfaces.component import ComponentConfig
from perceptio.interfaces.model_specs import ModelSpecs


class Head(nn.Module, ABC):
    """A map (..., in_dim) -> (..., out_dim), or from the n hidden states of a stream to m rows.

    The latter is (N, n, in_dim) -> (N, m, out_dim).
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return the mapped vectors."""


@attrs.frozen(kw_only=True)
class HeadConfig(ComponentConfig, ABC):
    """Config of a head. Its widths are derived from the parts that it connects."""

    @abstractmethod
    def build(self, in_dim: int, out_dim: int, model: ModelSpecs) -> Head:
        """Build the head from width `in_dim` to width `out_dim`, with random weights, for a model of these specs."""

    def num_rows(self, count: int) -> int:
        """Return how many rows the head makes from `count` vectors; as many by default."""
        return count
