"""Built-in tokenizers of streams other than depth codes and masks of objects."""

from perceptio.hookspecs import hookimpl
from perceptio.tokenizers.perception.box import BoxConfig
from perceptio.tokenizers.perception.covt_depth import CoVTDepthConfig
from perceptio.tokenizers.perception.covt_edges import CoVTEdgesConfig
from perceptio.tokenizers.perception.covt_masks import CoVTMasksConfig
from perceptio.tokenizers.perception.features import FeaturesConfig
from perceptio.tokenizers.perception.map import MapFSQConfig, MapVQVAEConfig
from perceptio.tokenizers.perception.mask_codes import MaskCodesConfig


@hookimpl
def register_perception_tokenizers() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [
        MapVQVAEConfig,
        MapFSQConfig,
        FeaturesConfig,
        BoxConfig,
        MaskCodesConfig,
        CoVTDepthConfig,
        CoVTEdgesConfig,
        CoVTMasksConfig,
    ]
