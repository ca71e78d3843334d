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

    def __init__(self, in_dim: int, out_dim: int, norm: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(in_dim) if norm else nn.Identity(),
            nn.Linear(in_dim, out_dim),
            nn.GELU(),
            nn.Linear(out_dim, out_dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """See `Head.forward`."""
        return self.layers(x)


@attrs.frozen(kw_only=True)
class MLPHeadConfig(HeadConfig):
    """The projector of InternVL from vision features to the width of the language model.

    Attributes:
        norm: Whether it begins with a LayerNorm. Without it, it is the projector of LLaVA-1.5 (arXiv 2310.03744).
        weights: A folder, file or hub id of an InternVL checkpoint. None: random values.
    """

    name: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = Kind.HEAD
    interface: ClassVar[tuple[int, int]] = (2, 0)

    norm: bool = True
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    def build(self, in_dim: int, out_dim: int, model: ModelSpecs) -> MLPHead:
        """See `HeadConfig.build`."""
        return MLPHead(in_dim, out_dim, self.norm)

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
