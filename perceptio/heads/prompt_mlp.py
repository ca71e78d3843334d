"""Sa2VA's map from the hidden state of a special token to a mask prompt."""

from typing import ClassVar

import attrs
from torch import Tensor, nn

from perceptio.interfaces import Head, HeadConfig, Kind, ModelSpecs


class PromptMLP(Head):
    """(..., in_dim) -> (..., out_dim): Linear at `in_dim`, ReLU, Linear (Sa2VA, arXiv 2501.04001)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_dim, in_dim), nn.ReLU(), nn.Linear(in_dim, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """See `Head.forward`."""
        return self.layers(x)


@attrs.frozen(kw_only=True)
class PromptMLPConfig(HeadConfig):
    """The head between hidden states and mask prompts, as Sa2VA has it."""

    name: ClassVar[str] = "prompt_mlp"
    kind: ClassVar[Kind] = Kind.HEAD
    interface: ClassVar[tuple[int, int]] = (2, 0)

    def build(self, in_dim: int, out_dim: int, model: ModelSpecs) -> PromptMLP:
        """See `HeadConfig.build`."""
        return PromptMLP(in_dim, out_dim)
