"""A head of learned queries that attend to the hidden states of special tokens, as in CoVT (arXiv 2511.19418).

Shapes: N blocks, n hidden states of each, m queries, D width of a row, H heads.
"""

from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import Head, HeadConfig, Kind, ModelSpecs

Over = Literal["states", "width"]


class QueryHead(Head):
    """(N, n, in_dim) -> (N, m, out_dim): a linear map, L2 normalization, then multi-head cross-attention.

    Args:
        in_dim: The width of a hidden state.
        out_dim: The width of a row, D, a multiple of `num_heads`.
        num_queries: The number of rows, m.
        num_heads: The number of attention heads, H.
        normalize_over: See `QueryHeadConfig`.
    """

    def __init__(
        self, in_dim: int, out_dim: int, num_queries: int, num_heads: int, normalize_over: Over
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.normalized_dim = {"states": -2, "width": -1}[normalize_over]
        self.project = nn.Linear(in_dim, out_dim)
        self.queries = nn.Parameter(torch.randn(num_queries, out_dim))
        self.query, self.key, self.value, self.out = (nn.Linear(out_dim, out_dim) for _ in range(4))
        for linear in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """See `Head.forward`."""
        states_NnD = F.normalize(self.project(x), dim=self.normalized_dim)
        queries_NmD = self.query(self.queries).expand(len(x), -1, -1)
        heads = (
            y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for y in (queries_NmD, self.key(states_NnD), self.value(states_NnD))
        )
        return self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


@attrs.frozen(kw_only=True)
class QueryHeadConfig(HeadConfig):
    """The cross-attention head of CoVT, which makes a fixed number of rows from any number of special tokens.

    Attributes:
        num_queries: The number of rows. CoVT's code uses 8 for masks, 4 for edges, and 1025 for DINOv2 features.
        num_heads: The number of attention heads, a divisor of the width of a row. CoVT's code uses 8, and 4 for
            edges, whose rows are 60 wide.
        normalize_over: The dimension of L2 normalization after the linear map. `"states"` normalizes each channel
            over the states of a block, as CoVT's code does (it uses the default dimension of
            `torch.nn.functional.normalize`). `"width"` normalizes each state over its width; use it for a stream with
            a single token, of which `"states"` keeps only signs.

    Raises:
        RecipeError: `num_queries` or `num_heads` is below 1.
    """

    name: ClassVar[str] = "query"
    kind: ClassVar[Kind] = Kind.HEAD
    interface: ClassVar[tuple[int, int]] = (2, 0)

    num_queries: int
    num_heads: int = 8
    normalize_over: Over = "states"

    def __attrs_post_init__(self) -> None:
        if self.num_queries < 1 or self.num_heads < 1:
            raise RecipeError(
                f"query: num_queries ({self.num_queries}) and num_heads ({self.num_heads}) must be at least 1."
            )

    def num_rows(self, count: int) -> int:
        """See `HeadConfig.num_rows`."""
        return self.num_queries

    def build(self, in_dim: int, out_dim: int, model: ModelSpecs) -> QueryHead:
        """See `HeadConfig.build`.

        Raises:
            RecipeError: The number of heads does not divide the width of a row.
        """
        if out_dim % self.num_heads:
            near = next(heads for heads in range(self.num_heads, 0, -1) if out_dim % heads == 0)
            raise RecipeError(
                f"query: num_heads is {self.num_heads}, which does not divide the width of a row, {out_dim}; set it "
                f"to {near}."
            )
        return QueryHead(in_dim, out_dim, self.num_queries, self.num_heads, self.normalize_over)
