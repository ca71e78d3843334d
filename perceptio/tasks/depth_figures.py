"""Metrics of depth maps that a model wrote, against the ground truth."""

from collections.abc import Mapping
from typing import Any

from perceptio.interfaces import DepthMap, DepthSpec, Reply, Sample
from perceptio.ops.depth_metrics import DepthMapMeter


class DepthFigures:
    """Accumulates the metrics of written maps, one per sample.

    Args:
        metric: Whether maps and ground truth are both in metres.
    """

    def __init__(self, metric: bool) -> None:
        self._meter = DepthMapMeter(metric=metric)
        self._seen: Sample | None = None

    def update(self, reply: Reply, written: DepthMap | None) -> dict[str, Any]:
        """Add the map of a reply, if it is the first map of its sample. Replies about one sample must be consecutive.

        Returns:
            The metrics of this map; empty if it was not added.
        """
        sample = reply.question.sample
        if written is None or sample.depth is None or self._seen is sample:
            return {}
        self._seen = sample
        return self._meter.update(written, sample.depth)

    def compute(self) -> dict[str, Any]:
        """Return the metrics of `DepthMapMeter`, or only `count` 0 if no sample has a map and its ground truth."""
        return {"count": 0} if self._seen is None else self._meter.compute()


def in_metres(spec: DepthSpec, units: Mapping[str, str]) -> bool:
    """Return whether the tokenizer's maps and the depth of the data are both in metres."""
    return spec.convention.metric and units.get("depth") == "metres"
