"""Built-in tokenizers of streams other than depth codes and masks of objects."""

from perceptio.hookspecs import hookimpl
from perceptio.tokenizers.perception.covt_depth import CoVTDepthConfig
from perceptio.tokenizers.perception.covt_edges import CoVTEdgesConfig
from perceptio.tokenizers.perception.covt_masks import CoVTMasksConfig


@hookimpl
def register_perception_tokenizers() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [CoVTDepthConfig, CoVTEdgesConfig, CoVTMasksConfig]
