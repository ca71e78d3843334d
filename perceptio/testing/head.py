"""Conformance tests of a head."""

from typing import ClassVar

import torch

from perceptio.interfaces import Head, HeadConfig, Kind
from perceptio.testing.component import MODEL, ComponentConformance, assert_near, seeded


class _AnyHead(ComponentConformance):
    config: ClassVar[HeadConfig]
    kind = Kind.HEAD

    def fresh(self) -> Head:
        """Return a head that maps 12 numbers to 5."""
        return self.config.build(12, 5, MODEL)

    def test_it_trains(self) -> None:
        """Gradients reach every parameter and the input."""
        torch.manual_seed(0)
        head, x = self.fresh(), torch.randn(8, 3, 12, generator=seeded()).requires_grad_()
        head(x).square().sum().backward()
        assert x.grad is not None and bool(x.grad.any())
        assert all(p.grad is not None for p in head.parameters())


class HeadConformance(_AnyHead):
    """Set `config`, for a head that maps each vector independently."""

    def test_it_maps_vectors_of_any_arrangement(self) -> None:
        """(..., 12) -> (..., 5), each vector independently; an empty input is valid."""
        torch.manual_seed(0)
        head = self.fresh().eval()
        x = torch.randn(2, 3, 12, generator=seeded()) * torch.tensor([1.0, 50.0])[:, None, None]
        out = head(x)
        assert out.shape == (2, 3, 5)
        assert_near(head(x[1, 2]), out[1, 2], "a vector depends on its company")
        assert head(x[:0]).shape == (0, 3, 5)
        assert self.config.num_rows(3) == 3, "A head that maps each vector by itself makes as many rows."


class RowHeadConformance(_AnyHead):
    """Set `config`, for a head that reads all hidden states of a block together, for streams of special tokens."""

    def test_it_makes_as_many_rows_as_it_says(self) -> None:
        """(N, n, 12) -> (N, m, 5), each block independently; no block at all is valid."""
        torch.manual_seed(0)
        head, count = self.fresh().eval(), 4
        rows = self.config.num_rows(count)
        x = torch.randn(3, count, 12, generator=seeded()) * torch.tensor([1.0, 50.0, 0.1])[:, None, None]
        out = head(x)
        assert out.shape == (3, rows, 5)
        assert_near(head(x[1:2])[0], out[1], "a block depends on its company")
        assert head(x[:0]).shape == (0, rows, 5)
