"""Figures of depth maps against truth.

Error figures are those of monocular depth estimation since Eigen et al. (arXiv 1406.2283), in metres over known
pixels and without any alignment. Ordinal accuracy asks only which of two pixels is nearer, which relative depth can
answer too.

Shapes: B maps, H W pixels, P pairs.
"""

from typing import Any

import torch
from torch import Tensor

from perceptio.errors import InterfaceError

NEAREST_M = 1e-3
"""Metres that a prediction is clipped to before ratios are taken."""
PAIRS = 1000
"""Pairs of pixels drawn from each map for ordinal accuracy."""
MARGIN = 1.08
"""Pairs count when their true depths differ by this ratio or more (ours; AURORA asks for 20 of 255 gray levels)."""


class DepthMeter:
    """Errors of depth in metres, averaged over each map's known pixels, then over maps.

    Example:
        meter = DepthMeter()
        meter.update(torch.full((1, 1, 2, 2), 2.2), torch.full((1, 1, 2, 2), 2.0))
        meter.compute()["absrel"]  # 0.1
    """

    def __init__(self) -> None:
        self._sums = {name: 0.0 for name in ("absrel", "rmse", "rmse_log", "delta1", "delta2", "delta3")}
        self._count = 0
        self._ordered = self._pairs = 0
        self._generator = torch.Generator().manual_seed(0)

    def update(self, predicted_B1HW: Tensor, target_B1HW: Tensor) -> None:
        """Score maps in metres; NaN marks unknown pixels of the target.

        Raises:
            InterfaceError: The sizes differ, a prediction is not finite, or a target has no known pixel.
        """
        if predicted_B1HW.shape != target_B1HW.shape:
            raise InterfaceError(
                f"Depth of shape {list(predicted_B1HW.shape)} was given for a target of shape "
                f"{list(target_B1HW.shape)}; resize one to the other first."
            )
        predicted_BP = predicted_B1HW.flatten(1).double().clamp_min(NEAREST_M)
        target_BP = target_B1HW.flatten(1).double()
        known_BP = ~target_BP.isnan()
        if not bool(predicted_BP.isfinite().all()) or not bool(known_BP.any(1).all()):
            raise InterfaceError("A predicted depth map is not finite, or a target has no known pixel.")
        target_BP = torch.where(known_BP, target_BP, predicted_BP)
        count_B = known_BP.sum(1)

        def mean(values_BP: Tensor) -> Tensor:
            return (values_BP * known_BP).sum(1) / count_B

        error_BP = predicted_BP - target_BP
        ratio_BP = torch.maximum(predicted_BP / target_BP, target_BP / predicted_BP)
        figures = {
            "absrel": mean(error_BP.abs() / target_BP),
            "rmse": mean(error_BP.square()).sqrt(),
            "rmse_log": mean((predicted_BP / target_BP).log().square()).sqrt(),
            **{f"delta{power}": mean((ratio_BP < 1.25**power).double()) for power in (1, 2, 3)},
        }
        for name, values_B in figures.items():
            self._sums[name] += float(values_B.sum())
        self._count += len(predicted_BP)
        self._update_order(predicted_BP, target_BP, known_BP)

    def _update_order(self, predicted_BP: Tensor, target_BP: Tensor, known_BP: Tensor) -> None:
        first_P, second_P = torch.randint(target_BP.shape[1], (2, PAIRS), generator=self._generator)
        true_BP = target_BP[:, first_P] / target_BP[:, second_P]
        counted_BP = known_BP[:, first_P] & known_BP[:, second_P]
        counted_BP &= torch.maximum(true_BP, 1 / true_BP) >= MARGIN
        written_BP = predicted_BP[:, first_P] / predicted_BP[:, second_P]
        right_BP = torch.where(true_BP > 1, written_BP > 1, written_BP < 1) & counted_BP
        self._ordered += int(right_BP.sum())
        self._pairs += int(counted_BP.sum())

    def compute(self) -> dict[str, Any]:
        """`absrel`, `rmse` (m), `rmse_log`, `delta1..3` and `ordinal` (shares in [0, 1]), and `count` maps.

        Raises:
            InterfaceError: Nothing was scored.
        """
        if not self._count:
            raise InterfaceError("No depth map was scored.")
        figures: dict[str, Any] = {name: total / self._count for name, total in self._sums.items()}
        return figures | {"ordinal": self._ordered / max(self._pairs, 1), "count": self._count}


def code_usage(codes_NL: Tensor, codebook_size: int) -> dict[str, float]:
    """How much of a codebook is used: `codes_used`, and `perplexity` (exp of the entropy, at most the size)."""
    counts_K = torch.bincount(codes_NL.flatten().cpu(), minlength=codebook_size).double()
    share_K = counts_K / counts_K.sum()
    return {
        "codes_used": int((counts_K > 0).sum()),
        "perplexity": float(torch.special.entr(share_K).sum().exp()),
    }
