"""Quantizers: latents -> the nearest of K codes, whose vectors are learned (VQ) or form a fixed lattice (FSQ).

Shapes: B batch, N latents, L codes, K codebook size, C latent width, A axes.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from perceptio.errors import TrainingError
from perceptio.ops.processes import in_process_group

START_SPREAD = 0.75
"""The initial standard deviation of latents along an axis. From about 1 the squashing before rounding saturates."""
EPSILON = 1e-12


class Quantizer(nn.Module, ABC):
    """Base class of quantizers: latents -> the nearest of K codes."""

    @property
    @abstractmethod
    def codebook_KC(self) -> Tensor:
        """The vectors of all codes [K, C]."""

    @abstractmethod
    def nearest(self, latents_BLC: Tensor) -> Tensor:
        """Return int64 codes [B, L]. Never changes a buffer, in any mode."""

    @abstractmethod
    def forward(self, latents_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize latents. The first call in training mode fits the codes to its latents.

        Returns:
            The quantized latents with the gradient passed straight through, the codes [B, L], and a scalar auxiliary
            loss.
        """

    def latents_of(self, vectors_BLC: Tensor) -> Tensor:
        """Combine the vectors of L codes into quantized latents, linearly; by default the vectors themselves."""
        return vectors_BLC


class VectorQuantizer(Quantizer):
    """Quantizes to the nearest codebook vector in squared distance.

    In training mode every forward pass updates the codebook. The first batch initializes it with k-means; later
    batches update moving averages. Codes that few latents choose are replaced by latents of the batch. If the
    quantizer was built inside a process group, averages are summed over ranks.
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
        # Set explicitly: by default the library checks for a process group once per process and keeps the answer.
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
        # Before k-means the library's codebook is all zeros, so all codes would decode to the same map.
        self.vq.codebook = torch.randn(codebook_size, latent_dim)

    @property
    def codebook_KC(self) -> Tensor:
        """See `Quantizer.codebook_KC`."""
        return self.vq.codebook

    @property
    def started(self) -> bool:
        """Whether the codebook was fitted to latents."""
        return bool(self.vq._codebook.initted)

    def nearest(self, latents_BLC: Tensor) -> Tensor:
        """See `Quantizer.nearest`; if several codes are equally near, the first one."""
        # The library is not used here because its first call runs k-means even in eval mode.
        codebook_KC = self.codebook_KC
        return (codebook_KC.square().sum(1) - 2 * latents_BLC @ codebook_KC.T).argmin(-1)

    def forward(self, latents_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Quantizer.forward`; the auxiliary loss is the commitment loss, which pulls latents to their codes.

        Raises:
            TrainingError: Training inside a process group, if the quantizer was built before the group.
        """
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


class FiniteScalarQuantizer(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505): rounds to a lattice between two linear projections.

    The codes are not updated by moving averages, so there are no dead codes to replace.

    The first batch in training mode initializes the projections with its principal components. The component with the
    largest variance goes to the axis with the most levels (ours; from random projections, training uses only a
    quarter of the codes).
    """

    started: Tensor

    def __init__(self, levels: tuple[int, ...], latent_dim: int) -> None:
        from vector_quantize_pytorch import FSQ

        super().__init__()
        self.levels = levels
        # The library reads values during construction, which tensors on the meta device do not have.
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
        """Align the axes with the principal components of latents, scaled to `START_SPREAD` before rounding."""
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
