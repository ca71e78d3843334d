"""Heads: small trained maps between widths."""

from abc import ABC, abstractmethod

import attrs
from torch import Tensor, nn

from perceptio.interfaces.component import ComponentConfig
from perceptio.interfaces.model_specs import ModelSpecs


class Head(nn.Module, ABC):
    """A map (..., in_dim) -> (..., out_dim), or of the rows of a stream: (N, n, in_dim) -> (N, m, out_dim)."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The mapped vectors."""


@attrs.frozen(kw_only=True)
class HeadConfig(ComponentConfig, ABC):
    """Config of a head; its widths are derived from the parts it joins."""

    @abstractmethod
    def build(self, in_dim: int, out_dim: int, model: ModelSpecs) -> Head:
        """The head between these widths, with random weights, in a model of these specs."""

    def num_rows(self, count: int) -> int:
        """How many rows it makes of so many; a head that maps each vector by itself makes as many."""
        return count
