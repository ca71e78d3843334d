"""FSQ depth tokenizer: a fixed lattice of codes instead of a learned codebook.

Finite scalar quantization (arXiv 2309.15505): a latent is projected to a few numbers, and each is rounded to one of
a few levels. Nothing is averaged, so nothing can die.

Shapes: B batch, N latents, L codes, K codebook size, C latent width, A axes.
"""

import math
from typing import ClassVar

import attrs
import torch
from torch import Tensor, distributed

from perceptio.errors import RecipeError
from perceptio.interfaces import Kind
from perceptio.ops.processes import in_process_group
from perceptio.tokenizers.depth._autoencoder import AutoencoderDepthConfig, Quantizer

START_SPREAD = 0.75
"""Standard deviation of latents along an axis at its start; 1 is where the squashing before rounding bends."""
EPSILON = 1e-12


class FiniteScalarQuantizer(Quantizer):
    """Rounding to a lattice with the given number of levels per axis, between two linear projections.

    The first batch that is quantized in train mode gives the axes their start: its principal components, the widest
    for the most levels (ours; from random projections, training uses a quarter of the codes).
    """

    started: Tensor

    def __init__(self, levels: tuple[int, ...], latent_dim: int) -> None:
        from vector_quantize_pytorch import FSQ

        super().__init__()
        self.levels = levels
        # The library reads values while it builds, which the meta device has none of.
        with torch.device("cpu"):
            self.fsq = FSQ(levels=list(levels), dim=latent_dim)
        self.register_buffer("started", torch.tensor(not self.fsq.has_projections, device="cpu"))

    @property
    def codebook_KC(self) -> Tensor:
        """See `Quantizer.codebook_KC`: the lattice, projected to latents."""
        return self.fsq.project_out(self.fsq.implicit_codebook)

    def nearest(self, latents_BLC: Tensor) -> Tensor:
        """See `Quantizer.nearest`."""
        return self.fsq(latents_BLC)[1].long()

    def forward(self, latents_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Quantizer.forward`; the auxiliary loss is zero."""
        if self.training and not self.started:
            self._start(latents_BLC.detach().flatten(0, 1))
        quantized_BLC, codes_BL = self.fsq(latents_BLC)
        return quantized_BLC, codes_BL.long(), latents_BLC.new_zeros(())

    @torch.no_grad()
    def _start(self, latents_NC: Tensor) -> None:
        """Lay the axes along the principal components of latents, `START_SPREAD` wide before they are rounded."""
        mean_C, count = latents_NC.mean(0), len(self.levels)
        variance_C, components_CC = torch.linalg.eigh(torch.cov(latents_NC.float().T, correction=0))
        widest = variance_C.argsort(descending=True)[:count]
        axis_of = (
            torch.tensor(self.levels, device=mean_C.device).argsort(descending=True, stable=True).argsort()
        )
        widest = widest[axis_of]
        width_A = variance_C[widest].clamp_min(EPSILON).sqrt() / START_SPREAD
        axes_AC = components_CC[:, widest].T
        into, out = self.fsq.project_in, self.fsq.project_out
        into.weight.copy_(axes_AC / width_A[:, None])
        into.bias.copy_(-into.weight @ mean_C)
        out.weight.copy_((axes_AC * width_A[:, None]).T)
        out.bias.copy_(mean_C)
        self.started.fill_(True)
        if in_process_group():
            for parameter in self.parameters():
                distributed.broadcast(parameter, 0)


@attrs.frozen(kw_only=True)
class FSQDepthConfig(AutoencoderDepthConfig):
    """Finite scalar quantization; 8 x 4 x 4 levels give the 128 codes of the paper's VQ-VAE.

    Attributes:
        levels: Levels per axis of the lattice, each at least 3; the codebook size is their product.
    """

    name: ClassVar[str] = "fsq"
    kind: ClassVar[Kind] = Kind.DEPTH
    interface: ClassVar[tuple[int, int]] = (2, 0)

    levels: tuple[int, ...] = (8, 4, 4)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not self.levels or min(self.levels) < 3:
            raise RecipeError(f"{self.name}: levels are {self.levels}: give one or more, each at least 3.")
        if len(self.levels) > self.latent_dim:
            raise RecipeError(
                f"{self.name}: {len(self.levels)} levels need a latent_dim of at least {len(self.levels)}, and it is "
                f"{self.latent_dim}."
            )

    @property
    def codebook_size(self) -> int:
        """How many codes there are, K."""
        return math.prod(self.levels)

    def _build_quantizer(self) -> FiniteScalarQuantizer:
        return FiniteScalarQuantizer(self.levels, self.latent_dim)
