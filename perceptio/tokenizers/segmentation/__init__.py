"""Built-in segmentation tokenizers."""

from perceptio.hookspecs import hookimpl
from perceptio.tokenizers.segmentation.hf_sam import HFSAM3SegmentationConfig, HFSAMSegmentationConfig
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig


@hookimpl
def register_segmentation_tokenizers() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [PixelFeaturesConfig, SAM2SegmentationConfig, HFSAMSegmentationConfig, HFSAM3SegmentationConfig]
