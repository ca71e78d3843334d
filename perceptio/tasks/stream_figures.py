"""What was written of a stream against its targets, as its tokenizer compares them."""

import math
from collections.abc import Mapping
from typing import Any

from perceptio.ops.intervals import bootstrap_ratio


class StreamFigures:
    """The mean of each figure over what was written; what was not is counted.

    Example:
        figures = StreamFigures()
        figures.update({"iou": (0.5, 1.0)}, expected=3)
        figures.compute()  # {"iou": 0.75, "iou_interval": [0.5, 1.0], "count": 3, "missing": 1}
    """

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._expected = self._missing = 0

    def update(self, compared: Mapping[str, tuple[float, ...]], expected: int) -> dict[str, Any]:
        """Take what a reply's `compared` holds of the stream, of so many that should have been written.

        Returns:
            The values of each figure, and how many are `missing`.
        """
        for name, values in compared.items():
            self._values.setdefault(name, []).extend(value for value in values if not math.isnan(value))
        missing = expected - max((len(values) for values in compared.values()), default=0)
        self._expected += expected
        self._missing += missing
        return {name: list(values) for name, values in compared.items()} | {"missing": missing}

    def compute(self) -> dict[str, Any]:
        """Each figure's mean over what was written whole, with its 95% bootstrap interval under `FIGURE_interval`.

        `count` is how many should have been written, and `missing` how many of them were not. What is unknown of a
        target is no value; a figure without values is left out.
        """
        figures: dict[str, Any] = {}
        for name, values in self._values.items():
            if values:
                figures[name] = sum(values) / len(values)
                figures[f"{name}_interval"] = list(bootstrap_ratio(values, [1.0] * len(values)))
        return figures | {"count": self._expected, "missing": self._missing}
