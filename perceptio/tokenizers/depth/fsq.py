"""FSQ depth tokenizer: a fixed lattice of codes instead of a learned codebook."""

from typing import ClassVar

import attrs

from perceptio.interfaces import Kind
from perceptio.tokenizers._autoencoder import FSQAutoencoderConfig
from perceptio.tokenizers.depth._autoencoder import AutoencoderDepthConfig


@attrs.frozen(kw_only=True)
class FSQDepthConfig(FSQAutoencoderConfig, AutoencoderDepthConfig):
    """Depth tokenizer with finite scalar quantization (arXiv 2309.15505); other defaults as in AURORA's VQ-VAE."""

    name: ClassVar[str] = "fsq"
    kind: ClassVar[Kind] = Kind.DEPTH
    interface: ClassVar[tuple[int, int]] = (2, 0)
