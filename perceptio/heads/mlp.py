"""The vision projector of InternVL: a LayerNorm, then two linear maps with a GELU between them."""

from typing import ClassVar

import attrs
from torch import Tensor, nn

from perceptio.interfaces import Head, HeadConfig, Kind, ModelSpecs
from perceptio.ops.hub import resolve
from perceptio.ops.internvl_layout import projector
from perceptio.ops.weights import load_tensors


class MLPHead(Head):
    """(..., in_dim) -> (..., out_dim): optional LayerNorm, Linear to `out_dim`, GELU, Linear."""

    def __init__(self, in_dim: int, out_dim: int, norm: bool = True, zero_start: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(in_dim) if norm else nn.Identity(),
            nn.Linear(in_dim, out_dim),
            nn.GELU(),
            nn.Linear(out_dim, out_dim),
        )
        if zero_start:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """See `Head.forward`."""
        return self.layers(x)


@attrs.frozen(kw_only=True)
class MLPHeadConfig(HeadConfig):
    """The projector of InternVL from vision features to the width of the language model.

    Attributes:
        norm: Whether it begins with a LayerNorm. Without it, it is the projector of LLaVA-1.5 (arXiv 2310.03744).
        zero_start: Whether its last linear map starts from zeros instead of random values. The outputs of a random
            projector disturb a pretrained language model more than zeros do. Flamingo's gated layers start closed
            for the same reason (arXiv 2204.14198).
        weights: A folder, file or hub id of an InternVL checkpoint. None: random values.
    """

    name: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = Kind.HEAD
    interface: ClassVar[tuple[int, int]] = (2, 0)

    norm: bool = True
    zero_start: bool = False
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    def build(self, in_dim: int, out_dim: int, model: ModelSpecs) -> MLPHead:
        """See `HeadConfig.build`."""
        return MLPHead(in_dim, out_dim, self.norm, self.zero_start)

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`; only the projector's tensors are read from the checkpoint.

        Raises:
            CheckpointError: The checkpoint is missing, or its tensors do not match the head; the message lists them.
        """
        if self.weights is None:
            return False
        assert isinstance(module, MLPHead)
        load_tensors(module.layers, resolve(self.weights, ("*.safetensors*",)), projector)
        return True
