"""Metrics of a written stream against its targets, from its tokenizer's `compare`."""

import math
from collections.abc import Mapping
from typing import Any

from perceptio.ops.intervals import bootstrap_ratio


class StreamFigures:
    """Accumulates the mean of each metric over what was written, and counts what was not.

    Example:
        figures = StreamFigures()
        figures.update({"iou": (0.5, 1.0)}, expected=3)
        figures.compute()  # {"iou": 0.75, "iou_interval": [0.5, 1.0], "count": 3, "missing": 1}
    """

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._expected = self._missing = 0

    def update(self, compared: Mapping[str, tuple[float, ...]], expected: int) -> dict[str, Any]:
        """Add a reply's `compared` values of the stream.

        Args:
            compared: The values of each metric.
            expected: The number of values that a complete reply would have.

        Returns:
            The values of each metric, and the number of `missing` ones.
        """
        for name, values in compared.items():
            self._values.setdefault(name, []).extend(value for value in values if not math.isnan(value))
        missing = expected - max((len(values) for values in compared.values()), default=0)
        self._expected += expected
        self._missing += missing
        return {name: list(values) for name, values in compared.items()} | {"missing": missing}

    def compute(self) -> dict[str, Any]:
        """Return the mean of each metric over all written values, and as `METRIC_interval` its 95% interval.

        The intervals are bootstrapped.
        `count` is the number of values that should have been written, and `missing` the number that were not. NaN
        values, from unknown targets, are left out, and so are metrics without values.
        """
        figures: dict[str, Any] = {}
        for name, values in self._values.items():
            if values:
                figures[name] = sum(values) / len(values)
                figures[f"{name}_interval"] = list(bootstrap_ratio(values, [1.0] * len(values)))
        return figures | {"count": self._expected, "missing": self._missing}
