"""An autoencoder of dense maps with a quantizer, which the tokenizers of depth and of other maps share."""

from perceptio.tokenizers._autoencoder.config import (
    AutoencoderConfig,
    FSQAutoencoderConfig,
    VQAutoencoderConfig,
)
from perceptio.tokenizers._autoencoder.network import Autoencoder
from perceptio.tokenizers._autoencoder.quantizers import Quantizer, VectorQuantizer

__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "FSQAutoencoderConfig",
    "Quantizer",
    "VQAutoencoderConfig",
    "VectorQuantizer",
]
