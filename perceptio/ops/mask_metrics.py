"""Referring segmentation: cIoU and gIoU at the original size of each image.

Shapes: H W pixels of the original image.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from perceptio.errors import InterfaceError
from perceptio.ops.intervals import bootstrap_ratio

UNION_EPSILON = 1e-5
"""Added to each union in gIoU by the published scripts (LISA's and Sa2VA's); kept so that figures are comparable."""


class MaskMeter:
    """Scores one expression after the other.

    Example:
        meter = MaskMeter()
        meter.update(np.array([[True, True]]), np.array([[True, False]]))
        meter.compute()["ciou"]  # 0.5
    """

    def __init__(self) -> None:
        self._intersections: list[int] = []
        self._unions: list[int] = []
        self._missing = 0

    def update(self, predicted_HW: np.ndarray | None, target_HW: np.ndarray) -> dict[str, Any]:
        """Score one expression.

        Args:
            predicted_HW: The predicted mask, boolean, at the original size: first stretch logits to it, then
                threshold them, and unite several masks of one answer. None: the answer has no mask; this counts as
                an empty mask, because omitting it would inflate the figures.
            target_HW: The true mask, boolean; polygons must be united, not added.

        Returns:
            Its `intersection` and `union` in pixels, and whether the mask is `missing`.

        Raises:
            InterfaceError: The sizes differ, or a mask is not boolean.
        """
        missing = predicted_HW is None
        predicted_HW = np.zeros(target_HW.shape, dtype=bool) if predicted_HW is None else predicted_HW
        if predicted_HW.shape != target_HW.shape:
            raise InterfaceError(
                f"A mask of size {list(predicted_HW.shape)} was given for a target of size "
                f"{list(target_HW.shape)}; stretch its logits to the target's size before thresholding them."
            )
        if predicted_HW.dtype != bool or target_HW.dtype != bool:
            raise InterfaceError(
                f"Masks are scored as booleans, and these are {predicted_HW.dtype} and {target_HW.dtype}; threshold "
                "logits at 0, and unite overlapping polygons instead of adding them."
            )
        overlap = {
            "intersection": int((predicted_HW & target_HW).sum()),
            "union": int((predicted_HW | target_HW).sum()),
            "missing": missing,
        }
        self.add(overlap)
        return overlap

    def add(self, overlap: Mapping[str, Any]) -> None:
        """Add an expression that was scored before, as returned by `update`."""
        self._intersections.append(overlap["intersection"])
        self._unions.append(overlap["union"])
        self._missing += overlap["missing"]

    def compute(self) -> dict[str, Any]:
        """Return the figures of all expressions so far.

        Returns:
            `ciou`, the sum of intersections over the sum of unions; `giou`, the mean IoU, which is 1 if mask and
            target are both empty; their 95% bootstrap intervals over expressions; `missing`, the number of answers
            without a mask; `count`, the number of expressions. Without expressions the figures are NaN.
        """
        above, below = np.array(self._intersections, dtype=float), np.array(self._unions, dtype=float)
        ious = np.where(below == 0, 1.0, above / (below + UNION_EPSILON))
        ones = np.ones_like(ious)
        return {
            "ciou": ratio(above.sum(), below.sum()) if len(below) else float("nan"),
            "ciou_interval": list(bootstrap_ratio(above.tolist(), below.tolist())),
            "giou": float(ious.mean()) if len(ious) else float("nan"),
            "giou_interval": list(bootstrap_ratio(ious.tolist(), ones.tolist())),
            "missing": self._missing,
            "count": len(below),
        }


def score_masks(answers: Iterable[tuple[Sequence[np.ndarray | None], np.ndarray]]) -> dict[str, Any]:
    """Return the figures of `MaskMeter` for answers with their true masks.

    Args:
        answers: The masks of an answer, boolean [H, W], any number of them, None for one that is not a mask; and the
            true mask, boolean [H, W].
    """
    meter = MaskMeter()
    for written, target_HW in answers:
        meter.update(united(written), target_HW)
    return meter.compute()


def united(masks: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the union [H, W] of boolean masks; None if there is none, or all are None."""
    there = [mask_HW for mask_HW in masks if mask_HW is not None]
    return np.logical_or.reduce(there) if there else None


def ratio(intersection: float, union: float) -> float:
    """Return intersection over union; 1 if both masks are empty."""
    return float(intersection / union) if union else 1.0
