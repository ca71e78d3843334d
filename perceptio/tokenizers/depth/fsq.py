"""FSQ depth tokenizer: a fixed lattice of codes instead of a learned codebook.

Finite scalar quantization (arXiv 2309.15505): a latent is projected to a few numbers, and each is rounded to one of
a few levels. Nothing is averaged, so nothing can die or needs synchronizing.

Shapes: B batch, L codes, K codebook size, C latent width.
"""

import math
from typing import ClassVar

import attrs
from torch import Tensor

from perceptio.errors import RecipeError
from perceptio.interfaces import Kind
from perceptio.tokenizers.depth._autoencoder import AutoencoderDepthConfig, Quantizer


class FiniteScalarQuantizer(Quantizer):
    """Rounding to a lattice with the given number of levels per axis, between two linear projections."""

    def __init__(self, levels: tuple[int, ...], latent_dim: int) -> None:
        from vector_quantize_pytorch import FSQ

        super().__init__()
        self.fsq = FSQ(levels=list(levels), dim=latent_dim)

    @property
    def codebook_KC(self) -> Tensor:
        """See `Quantizer.codebook_KC`: the lattice, projected to latents."""
        return self.fsq.project_out(self.fsq.implicit_codebook)

    def nearest(self, latents_BLC: Tensor) -> Tensor:
        """See `Quantizer.nearest`."""
        return self.fsq(latents_BLC)[1].long()

    def forward(self, latents_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Quantizer.forward`; the auxiliary loss is zero."""
        quantized_BLC, codes_BL = self.fsq(latents_BLC)
        return quantized_BLC, codes_BL.long(), latents_BLC.new_zeros(())


@attrs.frozen(kw_only=True)
class FSQDepthConfig(AutoencoderDepthConfig):
    """Finite scalar quantization; 8 x 4 x 4 levels give the 128 codes of the paper's VQ-VAE.

    Attributes:
        levels: Levels per axis of the lattice, each at least 3; the codebook size is their product.
    """

    name: ClassVar[str] = "fsq"
    kind: ClassVar[Kind] = Kind.DEPTH
    interface: ClassVar[tuple[int, int]] = (1, 0)

    levels: tuple[int, ...] = (8, 4, 4)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not self.levels or min(self.levels) < 3:
            raise RecipeError(f"{self.name}: levels are {self.levels}: give one or more, each at least 3.")

    @property
    def codebook_size(self) -> int:
        """How many codes there are, K."""
        return math.prod(self.levels)

    def _build_quantizer(self) -> FiniteScalarQuantizer:
        return FiniteScalarQuantizer(self.levels, self.latent_dim)
