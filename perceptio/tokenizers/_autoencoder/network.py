"""The autoencoder network (encoder, quantizer, decoder) and the base class of the tokenizers that use it.

The network is the VQ-VAE of AiT ("All in Tokens", arXiv 2301.02229) with configurable sizes. AURORA (arXiv
2412.03548) trains it on relative depth; PaliGemma (arXiv 2407.07726) has its mask codes from one.

Shapes: T maps, M channels of a map, H W pixels, h w grid cells, L codes, K codebook size, C latent width.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from perceptio.errors import DataError
from perceptio.interfaces import PerceptionTokenizer, Reconstruction, clip_unit, fill_unknown
from perceptio.interfaces.component import described
from perceptio.ops.precision import brought_to
from perceptio.tokenizers._autoencoder.quantizers import Quantizer

DECODED_PIXELS = 2**19
"""`means_of_codes` decodes batches of about this many pixels, to bound memory."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a 1x1 convolution, added to the input; no normalization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block, with the shape of its input."""
        return x + self.net(x)


def build_encoder(
    channels: int, widths: tuple[int, ...], residual_blocks: int, latent_dim: int
) -> nn.Sequential:
    """Build the encoder: maps [T, M, H, W] in [-1, 1] -> latents [T, C, h, w]; each width halves the resolution."""
    layers: list[nn.Module] = []
    for width_in, width_out in zip((channels, *widths), widths, strict=False):
        layers += [nn.Conv2d(width_in, width_out, 4, stride=2, padding=1), nn.ReLU()]
    layers += [ResidualBlock(widths[-1]) for _ in range(residual_blocks)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], latent_dim, 1))


def build_decoder(
    channels: int, widths: tuple[int, ...], residual_blocks: int, latent_dim: int
) -> nn.Sequential:
    """Build the decoder: latents [T, C, h, w] -> maps [T, M, H, W] in about [-1, 1]; it mirrors the encoder."""
    layers: list[nn.Module] = [nn.Conv2d(latent_dim, widths[-1], 1), nn.ReLU()]
    layers += [ResidualBlock(widths[-1]) for _ in range(residual_blocks)]
    rising = widths[::-1]
    for width_in, width_out in zip((rising[0], *rising), rising, strict=False):
        layers += [nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[0], channels, 1))


class Autoencoder(PerceptionTokenizer):
    """Base class of tokenizers that train an autoencoder of maps.

    Maps have `channels` channels at `map_size`. The network computes with values in [-1, 1]. A tokenizer whose maps
    are not in [0, 1] overrides `to_unit` and `from_unit`. `freeze` ends training: the tokenizer then stays in eval
    mode, and so does every tokenizer that loads its state dict.
    """

    frozen: Tensor

    def __init__(
        self,
        spec: Any,
        parts: tuple[nn.Sequential, Quantizer, nn.Sequential],
        *,
        channels: int,
        map_size: tuple[int, int],
        grid: tuple[int, int],
    ) -> None:
        super().__init__()
        self.spec = spec
        self.map_shape = (channels, *map_size)
        self.grid = grid
        self.encoder, self.quantizer, self.decoder = parts
        # On the CPU because the host reads it, even if the tokenizer is built on the meta device.
        self.register_buffer("frozen", torch.tensor(False, device="cpu"))
        self.register_load_state_dict_post_hook(_stay_frozen)

    @property
    def codebook_KC(self) -> Tensor:
        """The vectors of all codes [K, C]."""
        return self.quantizer.codebook_KC

    def to_unit(self, maps_TMHW: Tensor) -> Tensor:
        """Convert the tokenizer's map values to [0, 1]; by default they already are."""
        return maps_TMHW

    def from_unit(self, maps_TMHW: Tensor) -> Tensor:
        """Invert `to_unit`."""
        return maps_TMHW

    def latent_grid(self, vectors_TLC: Tensor) -> Tensor:
        """Combine the vectors of L codes into latents [T, C, h, w]."""
        return self.quantizer.latents_of(vectors_TLC).mT.unflatten(2, self.grid)

    def decode_latents(self, latents_TChw: Tensor) -> Tensor:
        """Decode a grid of latents to maps [T, M, H, W] in about [0, 1], not yet clipped."""
        return (self.decoder(latents_TChw) + 1) / 2

    @torch.no_grad()
    def codes_of(self, maps_TMHW: Tensor) -> Tensor:
        """Encode maps in the tokenizer's own values as codes [T, L]; unknown values become the mean of known ones.

        Raises:
            DataError: A channel of a map has no known pixel.
        """
        return self.quantizer.nearest(self._latents(fill_unknown(maps_TMHW)[0]))

    def maps_of_codes(self, codes_NL: Tensor) -> Tensor:
        """Decode codes to maps [N, M, H, W] in the tokenizer's own values, clipped to their range.

        No gradient reaches the codebook.
        """
        return self._decoded(self.codebook_KC.detach()[codes_NL])

    def maps_of_probabilities(self, probabilities_NLK: Tensor) -> Tensor:
        """Decode distributions over codes to such maps; vectors are averaged in float32.

        No gradient reaches the codebook.
        """
        codebook_KC = self.codebook_KC.detach()
        return self._decoded((probabilities_NLK.float() @ codebook_KC.float()).to(codebook_KC.dtype))

    def reconstruct(self, targets: Tensor, *, quantize: bool = True) -> Reconstruction:
        """See `TrainableTokenizer.reconstruct`. In training mode the quantizer is fitted and updated here.

        Raises:
            DataError: The targets have another type or size.
        """
        if tuple(targets.shape[1:]) != self.map_shape or not targets.is_floating_point():
            wanted = ", ".join(map(str, self.map_shape))
            raise DataError(
                f"{type(self).__name__}.reconstruct was given {described(targets)} and not floating-point "
                f"[T, {wanted}]."
            )
        latents_TLC = self._latents(targets)
        if quantize:
            quantized_TLC, codes_TL, auxiliary_loss = self.quantizer(latents_TLC)
        else:
            codes_TL = self.quantizer.nearest(latents_TLC.detach())
            quantized_TLC, auxiliary_loss = latents_TLC, latents_TLC.new_zeros(())
        unit_TMHW = self.decode_latents(quantized_TLC.mT.unflatten(2, self.grid))
        return Reconstruction(
            values=self.from_unit(unit_TMHW), codes_TL=codes_TL, auxiliary_loss=auxiliary_loss
        )

    def freeze(self) -> None:
        """See `TrainableTokenizer.freeze`."""
        self.frozen.fill_(True)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; a frozen tokenizer stays in eval mode."""
        return super().train(mode and not bool(self.frozen))

    @torch.no_grad()
    def means_of_codes(self) -> Tensor:
        """For each code, return the mean [K, M], in [0, 1], of the map decoded from its vector at every cell."""
        at_once = max(1, DECODED_PIXELS // (self.map_shape[1] * self.map_shape[2]))
        means = [
            clip_unit(self.decode_latents(vectors_NC[..., None, None].expand(-1, -1, *self.grid))).mean(
                (2, 3)
            )
            for vectors_NC in self.codebook_KC.split(at_once)
        ]
        return torch.cat(means).float()

    def _latents(self, maps_TMHW: Tensor) -> Tensor:
        return self.encoder(brought_to(self, 2 * self.to_unit(maps_TMHW) - 1)).flatten(2).mT

    def _decoded(self, vectors_NLC: Tensor) -> Tensor:
        return self.from_unit(clip_unit(self.decode_latents(self.latent_grid(vectors_NLC))))


def _stay_frozen(tokenizer: nn.Module, _: object) -> None:
    assert isinstance(tokenizer, Autoencoder)
    if tokenizer.frozen:
        tokenizer.freeze()
