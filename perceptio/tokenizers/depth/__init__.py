"""Built-in depth tokenizers."""

from perceptio.hookspecs import hookimpl
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.tokenizers.depth.next_scale import NextScaleDepthConfig
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig


@hookimpl
def register_depth_tokenizers() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [VQVAEDepthConfig, FSQDepthConfig, NextScaleDepthConfig]
