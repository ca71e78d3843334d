"""Depth maps against truth in metres, at the truth's size, after an alignment that is named.

Depth in metres needs none. Relative depth has no scale, or neither scale nor shift, and is measured after the best
one for each map; figures under different alignments are not comparable.

Shapes: H W pixels of the truth, P known pixels.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from perceptio.errors import InputError
from perceptio.interfaces import DepthMap
from perceptio.interfaces.maps import resize_maps
from perceptio.ops.depth_metrics import NEAREST_M, depth_errors
from perceptio.ops.intervals import bootstrap_ratio

Alignment = Literal["none", "median", "least_squares"]
"""`none`: metres as they are. `median`: scaled so that the medians agree (SfMLearner, arXiv 1704.07813).
`least_squares`: scale and shift of the disparity that fit the true one best (MiDaS, arXiv 1907.01341)."""
LEAST_DISPARITY = 1e-3
"""What a predicted disparity is clipped to before it is inverted, where medians are brought together."""
ERRORS = ("absrel", "rmse", "rmse_log", "delta1", "delta2", "delta3")


def score_depth(
    answers: Iterable[tuple[DepthMap | None, DepthMap]],
    *,
    alignment: Alignment = "none",
    max_depth: float | None = None,
) -> dict[str, Any]:
    """The figures of maps, each with the truth; see `mean_errors`.

    Args:
        answers: The map that was predicted, None where there is none; and the true one, in metres.
        alignment: How each is brought to metres.
        max_depth: See `aligned_errors`.
    """
    return mean_errors(
        None if predicted is None else aligned_errors(predicted, truth, alignment, max_depth)
        for predicted, truth in answers
    )


def mean_errors(errors: Iterable[Mapping[str, float] | None]) -> dict[str, Any]:
    """The means of the errors of maps, with their 95% bootstrap intervals.

    Args:
        errors: As `aligned_errors` gives them; None of a map that was not predicted.

    Returns:
        Each of `ERRORS` and its interval under `FIGURE_interval`, over the maps that were predicted; `count` of all
        maps, and `missing`, how many were not.
    """
    known, missing = [], 0
    for one in errors:
        if one is None:
            missing += 1
        else:
            known.append(one)
    figures: dict[str, Any] = {}
    for name in ERRORS if known else ():
        values = [one[name] for one in known]
        figures[name] = sum(values) / len(values)
        figures[f"{name}_interval"] = list(bootstrap_ratio(values, [1.0] * len(values)))
    return figures | {"count": len(known) + missing, "missing": missing}


def aligned_errors(
    predicted: DepthMap, truth: DepthMap, alignment: Alignment, max_depth: float | None = None
) -> dict[str, float]:
    """The errors of one map: `ERRORS` by name, as `depth_errors` defines them.

    Args:
        predicted: What was predicted, of any size; it is stretched to that of the truth.
        truth: In metres.
        alignment: How the prediction is brought to metres.
        max_depth: Metres beyond which truth counts as unknown, and to which predictions are clipped, as benchmarks
            have it (10 of NYUv2, 80 of KITTI); None: truth counts wherever it is known.

    Raises:
        InputError: The truth has no metres, the prediction has none and is to be taken as it is, or no pixel of the
            truth is known within `max_depth`.
    """
    if truth.unit != "metres":
        raise InputError(f"Depth is measured against a truth in metres, and this is in {truth.unit}.")
    true_HW = torch.from_numpy(truth.values_HW).double()
    known_HW = ~true_HW.isnan() if max_depth is None else true_HW <= max_depth
    if not bool(known_HW.any()):
        raise InputError(f"No pixel of a true depth map is known within {max_depth} m: leave the map out.")
    height, width = true_HW.shape
    made_HW = resize_maps(torch.from_numpy(predicted.values_HW)[None, None], (height, width))[0, 0]
    true_P = true_HW[known_HW]
    farthest = float(true_P.max()) if max_depth is None else max_depth
    made_P = _in_metres(made_HW.double()[known_HW], predicted.unit, true_P, alignment, farthest)
    if max_depth is not None:
        made_P = made_P.clamp_max(max_depth)
    return {name: float(value_1) for name, value_1 in depth_errors(made_P[None], true_P[None]).items()}


def _in_metres(made_P: Tensor, unit: str, true_P: Tensor, alignment: Alignment, farthest: float) -> Tensor:
    """Predicted depth in metres; what an alignment takes beyond `farthest`, or behind the camera, is there."""
    if alignment == "none":
        if unit != "metres":
            raise InputError(
                f"Depth in {unit} has no metres to be measured as they are: align it by median or least_squares."
            )
        return made_P
    if alignment == "median":
        metres_P = made_P if unit == "metres" else 1 / made_P.clamp_min(LEAST_DISPARITY)
        return metres_P * (true_P.median() / metres_P.median().clamp_min(NEAREST_M))
    disparity_P = made_P if unit == "disparity" else 1 / made_P.clamp_min(NEAREST_M)
    wanted_P = 1 / true_P.clamp_min(NEAREST_M)
    mean, wanted_mean = disparity_P.mean(), wanted_P.mean()
    variance = (disparity_P - mean).square().mean()
    covariance = ((disparity_P - mean) * (wanted_P - wanted_mean)).mean()
    scale = covariance / variance if float(variance) > 0 else torch.zeros_like(variance)
    fitted_P = wanted_mean + scale * (disparity_P - mean)
    return 1 / fitted_P.clamp_min(1 / farthest)
