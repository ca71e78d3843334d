"""Referring segmentation: cIoU and gIoU at the original size of each image.

Shapes: H W pixels of the original image.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from perceptio.errors import InterfaceError
from perceptio.ops.intervals import bootstrap_ratio

UNION_EPSILON = 1e-5
"""Added to each union in gIoU by the published scripts (LISA's and Sa2VA's); kept, so that numbers compare."""


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
            predicted_HW: The answer's mask, boolean, at the original size: logits are stretched to it first and
                thresholded after, and several masks of one answer are united. None: the answer has no mask; it
                counts as an empty one, since leaving it out would flatter the figures.
            target_HW: The true mask, boolean; polygons are united, never added.

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
        """Take an expression that was scored before, as `update` returned it."""
        self._intersections.append(overlap["intersection"])
        self._unions.append(overlap["union"])
        self._missing += overlap["missing"]

    def compute(self) -> dict[str, Any]:
        """The figures of everything scored so far.

        Returns:
            `ciou`, the sum of intersections over the sum of unions; `giou`, the mean IoU, where an empty mask of an
            empty target is 1; their 95% bootstrap intervals over expressions; `missing`, how many answers had no
            mask; `count`, how many expressions there were. Without expressions the figures are NaN.
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
    """The figures of `MaskMeter` of answers, each with the true mask.

    Args:
        answers: The masks that an answer wrote, boolean [H, W], any number of them, None for one that is no mask; and
            the true mask, boolean [H, W].
    """
    meter = MaskMeter()
    for written, target_HW in answers:
        meter.update(united(written), target_HW)
    return meter.compute()


def united(masks: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """The union [H, W] of boolean masks; None where there is none, or each is None."""
    there = [mask_HW for mask_HW in masks if mask_HW is not None]
    return np.logical_or.reduce(there) if there else None


def ratio(intersection: float, union: float) -> float:
    """Intersection over union, 1 where both masks are empty."""
    return float(intersection / union) if union else 1.0
