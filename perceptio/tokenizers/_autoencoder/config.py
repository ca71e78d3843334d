"""Settings of autoencoders: the sizes of the network and of the two quantizers."""

import math
from abc import abstractmethod
from pathlib import Path

import attrs
from torch import nn

from perceptio.errors import CheckpointError, RecipeError
from perceptio.interfaces import PerceptionTokenizerConfig
from perceptio.ops.weights import WEIGHTS, load_tensors
from perceptio.tokenizers._autoencoder.network import build_decoder, build_encoder
from perceptio.tokenizers._autoencoder.quantizers import FiniteScalarQuantizer, Quantizer, VectorQuantizer


@attrs.frozen(kw_only=True)
class AutoencoderConfig(PerceptionTokenizerConfig):
    """Settings that all autoencoders share. The defaults are those of AURORA (arXiv 2412.03548).

    Attributes:
        grid: The rows and columns of latents.
        image_size: The height and width of the maps in pixels: the grid times one power of two, at least 2.
        widths: The number of channels after each halving of the resolution, from the pixels to the grid.
        residual_blocks: The number of residual blocks at the grid, in the encoder and in the decoder.
        latent_dim: The width of a latent, C.
        weights: The folder of a trained tokenizer, as `perceptio train-tokenizer` writes it. None: random values.

    Raises:
        RecipeError: The sizes do not fit together.
    """

    grid: tuple[int, int] = (10, 10)
    image_size: tuple[int, int] = (320, 320)
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

    def load_weights(self, module: nn.Module) -> bool:
        """See `ComponentConfig.load_weights`.

        Raises:
            CheckpointError: `weights` is not the folder of a tokenizer, or of one of another kind or size.
        """
        if self.weights is None:
            return False
        path = Path(self.weights) / WEIGHTS
        if not path.is_file():
            raise CheckpointError(
                f"{self.kind}:{self.name} is to read its weights from {self.weights}, and there is no {path}: name "
                "the folder that `perceptio train-tokenizer` wrote."
            )
        load_tensors(module, path)
        return True

    def new_parts(self, channels: int) -> tuple[nn.Sequential, Quantizer, nn.Sequential]:
        """Build the encoder, the quantizer and the decoder for maps with this many channels, with random values."""
        sizes = (channels, self.widths, self.residual_blocks, self.latent_dim)
        return build_encoder(*sizes), self.new_quantizer(), build_decoder(*sizes)

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """The number of codes, K."""

    @abstractmethod
    def new_quantizer(self) -> Quantizer:
        """Build the quantizer, not yet fitted to any latents."""


@attrs.frozen(kw_only=True)
class VQAutoencoderConfig(AutoencoderConfig):
    """Settings of an autoencoder with a learned codebook, which moving averages update.

    Attributes:
        codebook_size: The number of codes, K.
        decay: The decay of the codebook's moving averages (AURORA's).
        commitment_weight: The weight of the commitment loss, which pulls latents to their codes (AURORA's).
        dead_code_threshold: A code whose moving count of uses is below this is replaced (ours; AURORA replaces none).

    Raises:
        RecipeError: A value is out of range, or the sizes do not fit together.
    """

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

    def new_quantizer(self) -> Quantizer:
        """See `AutoencoderConfig.new_quantizer`."""
        return self.new_vector_quantizer()

    def new_vector_quantizer(self) -> VectorQuantizer:
        """Build the vector quantizer, not yet fitted to any latents."""
        return VectorQuantizer(
            self.codebook_size,
            self.latent_dim,
            decay=self.decay,
            commitment_weight=self.commitment_weight,
            dead_code_threshold=self.dead_code_threshold,
        )


@attrs.frozen(kw_only=True)
class FSQAutoencoderConfig(AutoencoderConfig):
    """Settings of an autoencoder with a fixed lattice of codes (FSQ).

    Attributes:
        levels: The number of levels per axis of the lattice, each at least 3. Their product is the codebook size; the
            default gives 128, the size of AURORA's codebook.

    Raises:
        RecipeError: The levels are invalid or more than `latent_dim`, or the sizes do not fit together.
    """

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
        """The number of codes, K."""
        return math.prod(self.levels)

    def new_quantizer(self) -> Quantizer:
        """See `AutoencoderConfig.new_quantizer`."""
        return FiniteScalarQuantizer(self.levels, self.latent_dim)
