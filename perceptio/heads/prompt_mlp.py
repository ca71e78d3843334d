"""The head of Sa2VA from the hidden state of a special token to a mask prompt."""

from typing import ClassVar, Literal

import attrs
from torch import Tensor, nn

from perceptio.interfaces import Head, HeadConfig, Kind, ModelSpecs


class PromptMLP(Head):
    """(..., in_dim) -> (..., out_dim): Linear to `in_dim`, activation, Linear (Sa2VA, arXiv 2501.04001)."""

    def __init__(self, in_dim: int, out_dim: int, between: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_dim, in_dim), between, nn.Linear(in_dim, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """See `Head.forward`."""
        return self.layers(x)


@attrs.frozen(kw_only=True)
class PromptMLPConfig(HeadConfig):
    """The MLP of Sa2VA from hidden states to mask prompts.

    Attributes:
        activation: The activation between the linear maps: `"relu"` in Sa2VA and LISA, `"gelu"` in CoVT for depth.
    """

    name: ClassVar[str] = "prompt_mlp"
    kind: ClassVar[Kind] = Kind.HEAD
    interface: ClassVar[tuple[int, int]] = (2, 0)

    activation: Literal["relu", "gelu"] = "relu"

    def build(self, in_dim: int, out_dim: int, model: ModelSpecs) -> PromptMLP:
        """See `HeadConfig.build`."""
        return PromptMLP(in_dim, out_dim, nn.ReLU() if self.activation == "relu" else nn.GELU())
