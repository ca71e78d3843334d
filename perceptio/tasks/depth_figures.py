"""Written depth maps against the truth, of one reply per sample."""

from collections.abc import Mapping
from typing import Any

from perceptio.interfaces import DepthMap, DepthSpec, Reply, Sample
from perceptio.ops.depth_metrics import DepthMapMeter


class DepthFigures:
    """Figures of written maps.

    Args:
        metric: Whether maps and truth are both in metres.
    """

    def __init__(self, metric: bool) -> None:
        self._meter = DepthMapMeter(metric=metric)
        self._seen: Sample | None = None

    def update(self, reply: Reply, written: DepthMap | None) -> dict[str, Any]:
        """Take the map of a sample's first reply that has one; a sample's replies come one after the other.

        Returns:
            The figures of this map alone; empty where it is not taken.
        """
        sample = reply.question.sample
        if written is None or sample.depth is None or self._seen is sample:
            return {}
        self._seen = sample
        return self._meter.update(written, sample.depth)

    def compute(self) -> dict[str, Any]:
        """Of `DepthMapMeter`; `count` alone, 0, where no sample has a map and its truth."""
        return {"count": 0} if self._seen is None else self._meter.compute()


def in_metres(spec: DepthSpec, units: Mapping[str, str]) -> bool:
    """Whether what a tokenizer writes and the data's depth are both in metres."""
    return spec.convention.metric and units.get("depth") == "metres"
