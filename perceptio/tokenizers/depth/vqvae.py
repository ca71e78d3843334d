"""VQ-VAE depth tokenizer: a learned codebook, kept by moving averages.

Shapes: B batch, L codes, K codebook size, C latent width.
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError, TrainingError
from perceptio.interfaces import Kind
from perceptio.ops.processes import in_process_group
from perceptio.tokenizers.depth._autoencoder import AutoencoderDepthConfig, Quantizer


class VectorQuantizer(Quantizer):
    """The nearest codebook vector in squared distance.

    In train mode every forward moves the codebook: k-means over the first batch that is quantized, then moving
    averages, and codes that hardly any latent chooses are moved onto latents of the batch. Averages are summed over
    ranks where the quantizer was made inside a process group.
    """

    def __init__(
        self,
        codebook_size: int,
        latent_dim: int,
        *,
        decay: float,
        commitment_weight: float,
        dead_code_threshold: float,
    ) -> None:
        from vector_quantize_pytorch import VectorQuantize

        super().__init__()
        # Said outright: left to itself the library asks once per process and remembers the answer for ever.
        self.synchronized = in_process_group()
        self.commitment_weight = commitment_weight
        self.vq = VectorQuantize(
            dim=latent_dim,
            codebook_size=codebook_size,
            decay=decay,
            commitment_weight=commitment_weight,
            threshold_ema_dead_code=dead_code_threshold,
            kmeans_init=True,
            rotation_trick=False,
            sync_codebook=self.synchronized,
        )
        # Before k-means the library's codebook is all zeros, and every code would decode alike.
        self.vq.codebook = torch.randn(codebook_size, latent_dim)

    @property
    def codebook_KC(self) -> Tensor:
        """See `Quantizer.codebook_KC`."""
        return self.vq.codebook

    def nearest(self, latents_BLC: Tensor) -> Tensor:
        """See `Quantizer.nearest`; of equally near codes the first."""
        # The library is left out: its first call runs k-means even in eval mode.
        codebook_KC = self.codebook_KC
        return (codebook_KC.square().sum(1) - 2 * latents_BLC @ codebook_KC.T).argmin(-1)

    def forward(self, latents_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Quantizer.forward`; the auxiliary loss draws latents to their codes."""
        if self.training:
            if in_process_group() and not self.synchronized:
                raise TrainingError(
                    "This VQ-VAE was built before the process group, so its codebook would differ between ranks: "
                    "build it after torch.distributed.init_process_group."
                )
            return self.vq(latents_BLC)
        codes_BL = self.nearest(latents_BLC)
        quantized_BLC = self.codebook_KC[codes_BL]
        commitment = self.commitment_weight * F.mse_loss(latents_BLC, quantized_BLC)
        return latents_BLC + (quantized_BLC - latents_BLC).detach(), codes_BL, commitment


@attrs.frozen(kw_only=True)
class VQVAEDepthConfig(AutoencoderDepthConfig):
    """VQ-VAE with a codebook of free vectors.

    Attributes:
        codebook_size: How many codes there are, K.
        decay: Weight of the past in the codebook's moving averages (AURORA's).
        commitment_weight: Weight of the pull of latents to their codes (AURORA's).
        dead_code_threshold: A code with a moving count below this is revived (ours; AURORA revives none).
    """

    name: ClassVar[str] = "vqvae"
    kind: ClassVar[Kind] = Kind.DEPTH
    interface: ClassVar[tuple[int, int]] = (2, 0)

    codebook_size: int = 128
    decay: float = 0.99
    commitment_weight: float = 0.25
    dead_code_threshold: float = 2.0

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if (
            self.codebook_size < 2
            or not 0 < self.decay < 1
            or min(self.commitment_weight, self.dead_code_threshold) < 0
        ):
            raise RecipeError(
                f"{self.name}: codebook_size ({self.codebook_size}) must be at least 2, decay ({self.decay}) between "
                f"0 and 1, and commitment_weight ({self.commitment_weight}) and dead_code_threshold "
                f"({self.dead_code_threshold}) not negative."
            )

    def _build_quantizer(self) -> VectorQuantizer:
        return VectorQuantizer(
            self.codebook_size,
            self.latent_dim,
            decay=self.decay,
            commitment_weight=self.commitment_weight,
            dead_code_threshold=self.dead_code_threshold,
        )
