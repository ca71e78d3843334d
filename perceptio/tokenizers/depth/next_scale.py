"""Depth tokenizer that writes a map coarse to fine: 1x1 codes, then 2x2, 4x4, …; each scale encodes the residual.

Multi-scale residual quantization is from VAR ("Visual Autoregressive Modeling", arXiv 2404.02905). All scales share
one codebook. For each scale, the residual is averaged to the grid of the scale and quantized to the nearest codes.
Their vectors are interpolated to the finest grid and subtracted from the residual before the next scale. VAR's
convolutions after the interpolation are left out. The initialization and the moving averages of the codebook, and the
sizes, are ours.

Shapes: B maps, L codes of all scales, l codes of one scale, C latent width, h w cells of the finest grid.
"""

from collections.abc import Callable
from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.interfaces import DepthSpec, Kind
from perceptio.tokenizers._autoencoder import Quantizer, VectorQuantizer, VQAutoencoderConfig
from perceptio.tokenizers.depth._autoencoder import AutoencoderDepthConfig


class MultiScaleQuantizer(Quantizer):
    """Latents -> codes of several grids, from coarse to fine, whose interpolated vectors sum to the latents.

    In training mode the codebook is updated with the residuals of all scales together. It is initialized with the
    residuals of the first batch, for which each scale subtracts its residual unquantized.
    """

    def __init__(self, quantizer: VectorQuantizer, scales: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.scales = scales
        self.lengths = [rows * columns for rows, columns in scales]

    @property
    def codebook_KC(self) -> Tensor:
        """See `Quantizer.codebook_KC`: one codebook for all scales."""
        return self.quantizer.codebook_KC

    def latents_of(self, vectors_BLC: Tensor) -> Tensor:
        """See `Quantizer.latents_of`: the sum over scales."""
        parts = zip(vectors_BLC.split(self.lengths, 1), self.scales, strict=True)
        total_BChw = sum(self._at_finest(vectors_BlC, scale) for vectors_BlC, scale in parts)
        assert isinstance(total_BChw, Tensor)
        return total_BChw.flatten(2).mT

    def nearest(self, latents_BLC: Tensor) -> Tensor:
        """See `Quantizer.nearest`: greedy, scale by scale."""
        return self._quantized(latents_BLC)[0]

    def forward(self, latents_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Quantizer.forward`; the auxiliary loss pulls latents to the sum of their codes' vectors."""
        with torch.no_grad():
            if self.training and not self.quantizer.started:
                self.quantizer(self._residuals(latents_BLC, lambda residual_BlC: residual_BlC))
            codes_BL, residuals_BLC = self._quantized(latents_BLC)
            summed_BLC = self.latents_of(self.codebook_KC[codes_BL])
            if self.training:
                self.quantizer(residuals_BLC)
        commitment = self.quantizer.commitment_weight * F.mse_loss(latents_BLC, summed_BLC)
        return latents_BLC + (summed_BLC - latents_BLC).detach(), codes_BL, commitment

    def _quantized(self, latents_BLC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes of all scales [B, L] and the residuals [B, L, C] that they quantize."""
        codes, codebook_KC = [], self.codebook_KC

        def nearest(residual_BlC: Tensor) -> Tensor:
            codes.append(self.quantizer.nearest(residual_BlC))
            return codebook_KC[codes[-1]]

        residuals_BLC = self._residuals(latents_BLC, nearest)
        return torch.cat(codes, 1), residuals_BLC

    def _residuals(self, latents_BLC: Tensor, spoken: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the residuals [B, L, C] of all scales; `spoken` quantizes, or keeps, the residual of a scale."""
        left_BChw = latents_BLC.mT.unflatten(2, self.scales[-1])
        residuals = []
        for scale in self.scales:
            residuals.append(F.interpolate(left_BChw, size=scale, mode="area").flatten(2).mT)
            left_BChw = left_BChw - self._at_finest(spoken(residuals[-1]), scale)
        return torch.cat(residuals, 1)

    def _at_finest(self, vectors_BlC: Tensor, scale: tuple[int, int]) -> Tensor:
        """Interpolate the vectors of a scale to the finest grid: [B, C, h, w]."""
        vectors_BChw = vectors_BlC.mT.unflatten(2, scale)
        if scale == self.scales[-1]:
            return vectors_BChw
        return F.interpolate(vectors_BChw, size=self.scales[-1], mode="bicubic", align_corners=False)


@attrs.frozen(kw_only=True)
class NextScaleDepthConfig(VQAutoencoderConfig, AutoencoderDepthConfig):
    """VQ-VAE depth tokenizer written coarse to fine; `codes_per_step="group"` writes one scale per step.

    Attributes:
        grid: The rows and columns of the finest scale.
        coarser: The rows and columns of the scales before it, each smaller than the next.

    Raises:
        RecipeError: The scales do not grow, or other settings do not fit together.
    """

    name: ClassVar[str] = "next_scale"
    kind: ClassVar[Kind] = Kind.DEPTH
    interface: ClassVar[tuple[int, int]] = (2, 0)

    grid: tuple[int, int] = (8, 8)
    image_size: tuple[int, int] = (256, 256)
    coarser: tuple[tuple[int, int], ...] = ((1, 1), (2, 2), (4, 4))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for (rows, columns), (next_rows, next_columns) in zip(self.scales, self.scales[1:], strict=False):
            if (
                min(rows, columns) < 1
                or rows > next_rows
                or columns > next_columns
                or (rows, columns) == (next_rows, next_columns)
            ):
                raise RecipeError(
                    f"{self.name}: the scales {self.scales} must grow from one to the next, up to the grid."
                )

    @property
    def scales(self) -> tuple[tuple[int, int], ...]:
        """The rows and columns of all scales, from coarse to fine."""
        return (*self.coarser, self.grid)

    @property
    def spec(self) -> DepthSpec:
        """See `DepthTokenizerConfig.spec`."""
        return attrs.evolve(super().spec, scales=self.scales)

    def new_quantizer(self) -> Quantizer:
        """See `AutoencoderConfig.new_quantizer`."""
        return MultiScaleQuantizer(self.new_vector_quantizer(), self.scales)
