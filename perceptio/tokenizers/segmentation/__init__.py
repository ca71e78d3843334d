"""Built-in segmentation tokenizers."""

from perceptio.hookspecs import hookimpl
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig


@hookimpl
def register_segmentation_tokenizers() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [PixelFeaturesConfig]
