"""Built-in tasks."""

from perceptio.hookspecs import hookimpl
from perceptio.tasks.drawn_points import DrawnPointsTaskConfig
from perceptio.tasks.maps import MapTaskConfig
from perceptio.tasks.plain import AttributeTaskConfig, PlainTaskConfig
from perceptio.tasks.referring import ReferringTaskConfig
from perceptio.tasks.relative_depth import RelativeDepthTaskConfig


@hookimpl
def register_tasks() -> list[type]:
    """See `perceptio.hookspecs`."""
    return [
        AttributeTaskConfig,
        DrawnPointsTaskConfig,
        MapTaskConfig,
        PlainTaskConfig,
        ReferringTaskConfig,
        RelativeDepthTaskConfig,
    ]
