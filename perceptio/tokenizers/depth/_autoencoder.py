"""What the built-in depth tokenizers share: a convolutional autoencoder around a quantizer of their own.

The network is the VQ-VAE of AiT ("All in Tokens", arXiv 2301.02229) that AURORA (arXiv 2412.03548) trains on
relative depth, with its sizes as parameters.

Shapes: B batch, H W pixels, h w grid cells, L = h*w codes, K codebook size, C latent width.
"""

from abc import ABC, abstractmethod
from pathlib import Path

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import CheckpointError, DataError, RecipeError
from perceptio.interfaces import (
    CodebookDepthTokenizer,
    DepthConvention,
    DepthSpec,
    DepthTokenizerConfig,
    Reconstruction,
    depth_problem,
    fill_unknown,
)
from perceptio.ops.precision import brought_to
from perceptio.ops.weights import WEIGHTS, load_tensors


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


def build_encoder(widths: tuple[int, ...], residual_blocks: int, latent_dim: int) -> nn.Sequential:
    """Depth in [-1, 1], [B, 1, H, W] -> latents [B, C, h, w]; each width halves the resolution once."""
    layers: list[nn.Module] = []
    for width_in, width_out in zip((1, *widths), widths, strict=False):
        layers += [nn.Conv2d(width_in, width_out, 4, stride=2, padding=1), nn.ReLU()]
    layers += [ResidualBlock(widths[-1]) for _ in range(residual_blocks)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], latent_dim, 1))


def build_decoder(widths: tuple[int, ...], residual_blocks: int, latent_dim: int) -> nn.Sequential:
    """Latents [B, C, h, w] -> depth in about [-1, 1], [B, 1, H, W]; the mirror image of `build_encoder`."""
    layers: list[nn.Module] = [nn.Conv2d(latent_dim, widths[-1], 1), nn.ReLU()]
    layers += [ResidualBlock(widths[-1]) for _ in range(residual_blocks)]
    rising = widths[::-1]
    for width_in, width_out in zip((rising[0], *rising), rising, strict=False):
        layers += [nn.ConvTranspose2d(width_in, width_out, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[0], 1, 1))


class Quantizer(nn.Module, ABC):
    """Latents -> the nearest of K codes. What tells one built-in depth tokenizer from another."""

    @property
    @abstractmethod
    def codebook_KC(self) -> Tensor:
        """The latent of every code [K, C]."""

    @abstractmethod
    def nearest(self, latents_BLC: Tensor) -> Tensor:
        """Codes [B, L], int64; moves no buffer, whatever the mode."""

    @abstractmethod
    def forward(self, latents_BLC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantized latents [B, L, C] with the gradient passed through, codes [B, L], auxiliary loss [].

        The first call in train mode fits the codes to its latents.
        """


class AutoencoderDepthTokenizer(CodebookDepthTokenizer):
    """Encoder, quantizer, decoder. Depth is in [0, 1] outside and in [-1, 1] inside, as AURORA's weights expect.

    `freeze` ends training: the tokenizer then stays in eval mode, and a state dict carries the fact along.
    """

    frozen: Tensor

    def __init__(
        self, spec: DepthSpec, encoder: nn.Sequential, quantizer: Quantizer, decoder: nn.Sequential
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        # The host reads it, even of a tokenizer that is built on the meta device.
        self.register_buffer("frozen", torch.tensor(False, device="cpu"))
        self.register_load_state_dict_post_hook(_stay_frozen)

    @property
    def codebook_KC(self) -> Tensor:
        """See `CodebookDepthTokenizer.codebook_KC`."""
        return self.quantizer.codebook_KC

    @torch.no_grad()
    def encode(self, depth_B1HW: Tensor) -> Tensor:
        """See `DepthTokenizer.encode`."""
        return self.quantizer.nearest(self._latents(fill_unknown(depth_B1HW)[0]))

    def decode_latents(self, latents_BChw: Tensor) -> Tensor:
        """See `CodebookDepthTokenizer.decode_latents`."""
        return (self.decoder(latents_BChw) + 1) / 2

    def reconstruct(self, targets: Tensor, *, quantize: bool = True) -> Reconstruction:
        """See `TrainableTokenizer.reconstruct`; in train mode the quantizer starts, and may move, here."""
        if tuple(targets.shape[1:]) != (1, *self.spec.image_size):
            raise DataError(
                f"{type(self).__name__} was given depth that {depth_problem(targets, self.spec)}."
            )
        latents_BLC = self._latents(targets)
        if quantize:
            quantized_BLC, codes_BL, auxiliary_loss = self.quantizer(latents_BLC)
        else:
            codes_BL = self.quantizer.nearest(latents_BLC.detach())
            quantized_BLC, auxiliary_loss = latents_BLC, latents_BLC.new_zeros(())
        quantized_BChw = quantized_BLC.mT.unflatten(2, self.spec.grid)
        return Reconstruction(
            values=self.decode_latents(quantized_BChw), codes_TL=codes_BL, auxiliary_loss=auxiliary_loss
        )

    def freeze(self) -> None:
        """See `TrainableTokenizer.freeze`."""
        self.frozen.fill_(True)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "AutoencoderDepthTokenizer":
        """Change the mode, except that a frozen tokenizer stays in eval mode."""
        return super().train(mode and not bool(self.frozen))

    def _latents(self, depth_B1HW: Tensor) -> Tensor:
        return self.encoder(brought_to(self, 2 * depth_B1HW - 1)).flatten(2).mT


def _stay_frozen(tokenizer: nn.Module, _: object) -> None:
    assert isinstance(tokenizer, AutoencoderDepthTokenizer)
    if tokenizer.frozen:
        tokenizer.freeze()


@attrs.frozen(kw_only=True)
class AutoencoderDepthConfig(DepthTokenizerConfig):
    """Sizes that the built-in depth tokenizers share; the defaults are AURORA's.

    Attributes:
        grid: Rows and columns of codes.
        image_size: Height and width in pixels; a power of two times the grid.
        convention: What a depth value means.
        widths: Channels after each halving of the resolution, from the pixels to the grid.
        residual_blocks: Residual blocks at the grid, in the encoder and in the decoder.
        latent_dim: Width of a latent, C.
        weights: A trained tokenizer's folder, as `perceptio train-depth-tokenizer` writes it; None: random values.
    """

    grid: tuple[int, int] = (10, 10)
    image_size: tuple[int, int] = (320, 320)
    convention: DepthConvention = attrs.field(factory=DepthConvention)
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    residual_blocks: int = 2
    latent_dim: int = 512
    weights: str | None = attrs.field(default=None, metadata={"fingerprint": False})

    def __attrs_post_init__(self) -> None:
        (height, width), (rows, columns) = self.image_size, self.grid
        sizes = (height, width, rows, columns, *self.widths, self.latent_dim)
        if min(sizes) < 1 or self.residual_blocks < 0:
            raise RecipeError(
                f"{self.name}: a size is below 1: image_size {self.image_size}, grid {self.grid}, widths "
                f"{self.widths}, latent_dim {self.latent_dim}, residual_blocks {self.residual_blocks}."
            )
        stride = height // rows
        if (height, width) != (rows * stride, columns * stride) or stride < 2 or stride & (stride - 1):
            raise RecipeError(
                f"{self.name}: the image size {self.image_size} must be the grid {self.grid} times one power of "
                f"two of at least 2, such as {(8 * rows, 8 * columns)}."
            )
        levels = stride.bit_length() - 1
        if len(self.widths) != levels:
            raise RecipeError(
                f"{self.name}: {len(self.widths)} widths {self.widths} are given, and {levels} are needed, one for "
                f"each halving from the image size {self.image_size} to the grid {self.grid}."
            )

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """How many codes there are, K."""

    @property
    def spec(self) -> DepthSpec:
        """See `DepthTokenizerConfig.spec`."""
        return DepthSpec(
            codebook_size=self.codebook_size,
            grid=self.grid,
            image_size=self.image_size,
            convention=self.convention,
        )

    def build(self) -> AutoencoderDepthTokenizer:
        """See `DepthTokenizerConfig.build`."""
        sizes = (self.widths, self.residual_blocks, self.latent_dim)
        return AutoencoderDepthTokenizer(
            self.spec, build_encoder(*sizes), self._build_quantizer(), build_decoder(*sizes)
        )

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`.

        Raises:
            CheckpointError: `weights` names no tokenizer's folder, or one of another kind or size.
        """
        if self.weights is None:
            return False
        path = Path(self.weights) / WEIGHTS
        if not path.is_file():
            raise CheckpointError(
                f"{self.kind}:{self.name} is to read its weights from {self.weights}, and there is no {path}: name "
                "the folder that `perceptio train-depth-tokenizer` wrote."
            )
        load_tensors(module, path)
        return True

    @abstractmethod
    def _build_quantizer(self) -> Quantizer: ...
