"""Encoder, quantizer, decoder: the network, and the part of a tokenizer that goes through it.

The network is the VQ-VAE of AiT ("All in Tokens", arXiv 2301.02229), with its sizes as parameters; AURORA (arXiv
2412.03548) trains it on relative depth, PaliGemma (arXiv 2407.07726) has its mask codes from one.

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
"""Codes are decoded for their meanings in batches of about so many pixels, which bounds memory."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a 1x1, added to the input; no normalization."""

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
        """The block's output, shaped as its input."""
        return x + self.net(x)


def build_encoder(
    channels: int, widths: tuple[int, ...], residual_blocks: int, latent_dim: int
) -> nn.Sequential:
    """Maps in [-1, 1], [T, M, H, W] -> latents [T, C, h, w]; each width halves the resolution once."""
    layers: list[nn.Module] = []
    for width_in, width_out in zip((channels, *widths), widths, strict=False):
        layers += [nn.Conv2d(width_in, width_out, 4, stride=2, padding=1), nn.ReLU()]
    layers += [ResidualBlock(widths[-1]) for _ in range(residual_blocks)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], latent_dim, 1))


def build_decoder(
    channels: int, widths: tuple[int, ...], residual_blocks: int, latent_dim: int
) -> nn.Sequential:
    """Latents [T, C, h, w] -> maps in about [-1, 1], [T, M, H, W]; the mirror image of `build_encoder`."""
    layers: list[nn.Module] = [nn.Conv2d(latent_dim, widths[-1], 1), nn.ReLU()]
    layers += [ResidualBlock(widths[-1]) for _ in range(residual_blocks)]
    rising = widths[::-1]
    for width_in, width_out in zip((rising[0], *rising), rising, strict=False):
        layers += [nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[0], channels, 1))


class Autoencoder(PerceptionTokenizer):
    """What a tokenizer that trains an autoencoder of maps has in common with every other.

    Maps have `channels` channels at `map_size`. Inside, values are in [-1, 1]; a tokenizer whose own values are not
    in [0, 1] gives `to_unit` and `from_unit`. `freeze` ends training: the tokenizer then stays in eval mode, and a
    state dict carries the fact along.
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
        # The host reads it, even of a tokenizer that is built on the meta device.
        self.register_buffer("frozen", torch.tensor(False, device="cpu"))
        self.register_load_state_dict_post_hook(_stay_frozen)

    @property
    def codebook_KC(self) -> Tensor:
        """The vector of every code [K, C]."""
        return self.quantizer.codebook_KC

    def to_unit(self, maps_TMHW: Tensor) -> Tensor:
        """The tokenizer's own values in [0, 1]; by default they are."""
        return maps_TMHW

    def from_unit(self, maps_TMHW: Tensor) -> Tensor:
        """The inverse of `to_unit`."""
        return maps_TMHW

    def latent_grid(self, vectors_TLC: Tensor) -> Tensor:
        """The latents [T, C, h, w] that the vectors of L codes make."""
        return self.quantizer.latents_of(vectors_TLC).mT.unflatten(2, self.grid)

    def decode_latents(self, latents_TChw: Tensor) -> Tensor:
        """Maps [T, M, H, W] in about [0, 1] of a grid of latents, not yet clipped."""
        return (self.decoder(latents_TChw) + 1) / 2

    @torch.no_grad()
    def codes_of(self, maps_TMHW: Tensor) -> Tensor:
        """Codes [T, L] of maps in the tokenizer's own values; unknown ones are filled with the mean of the known.

        Raises:
            DataError: A map has no known pixel.
        """
        return self.quantizer.nearest(self._latents(fill_unknown(maps_TMHW)[0]))

    def maps_of_codes(self, codes_NL: Tensor) -> Tensor:
        """Maps [N, M, H, W] in the tokenizer's own values and range; no gradient reaches the codebook."""
        return self._decoded(self.codebook_KC.detach()[codes_NL])

    def maps_of_probabilities(self, probabilities_NLK: Tensor) -> Tensor:
        """The same of distributions over codes, averaged in float32."""
        codebook_KC = self.codebook_KC.detach()
        return self._decoded((probabilities_NLK.float() @ codebook_KC.float()).to(codebook_KC.dtype))

    def reconstruct(self, targets: Tensor, *, quantize: bool = True) -> Reconstruction:
        """See `TrainableTokenizer.reconstruct`; in train mode the quantizer starts, and may move, here.

        Raises:
            DataError: What is given is of another type or size.
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
        """Change the mode, except that a frozen tokenizer stays in eval mode."""
        return super().train(mode and not bool(self.frozen))

    @torch.no_grad()
    def means_of_codes(self) -> Tensor:
        """For each code the mean of the map that has its vector at every cell, in [0, 1]: [K, M]."""
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
