"""Sources that are built in: published data sets, read as samples of a data folder, which `importing` writes."""

from perceptio.data.sources.coco import COCOSource
from perceptio.data.sources.refcoco import RefCOCOSource
from perceptio.hookspecs import hookimpl


@hookimpl
def register_sources() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [COCOSource, RefCOCOSource]
