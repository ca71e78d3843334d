"""The built-in sources: published data sets, read as samples of a data folder, which `importing` writes."""

from perceptio.data.sources.ade20k import ADE20KSource
from perceptio.data.sources.coco import COCOSource
from perceptio.data.sources.depth_pairs import DepthPairsSource
from perceptio.data.sources.llava import LLaVASource
from perceptio.data.sources.marked_points import MarkedPointsSource
from perceptio.data.sources.refcoco import RefCOCOSource
from perceptio.hookspecs import hookimpl


@hookimpl
def register_sources() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [
        ADE20KSource,
        COCOSource,
        DepthPairsSource,
        LLaVASource,
        MarkedPointsSource,
        RefCOCOSource,
    ]
