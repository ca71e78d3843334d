"""VQ-VAE depth tokenizer: a learned codebook, updated by moving averages."""

from typing import ClassVar

import attrs

from perceptio.interfaces import Kind
from perceptio.tokenizers._autoencoder import VQAutoencoderConfig
from perceptio.tokenizers.depth._autoencoder import AutoencoderDepthConfig


@attrs.frozen(kw_only=True)
class VQVAEDepthConfig(VQAutoencoderConfig, AutoencoderDepthConfig):
    """VQ-VAE depth tokenizer with a learned codebook; the defaults are AURORA's."""

    name: ClassVar[str] = "vqvae"
    kind: ClassVar[Kind] = Kind.DEPTH
    interface: ClassVar[tuple[int, int]] = (2, 0)
