"""Errors of depth maps against ground truth in metres, at its size, after a named alignment.

Depth in metres needs no alignment. Relative depth lacks a scale, or both scale and shift, and is measured after the
best alignment of each map. Figures under different alignments are not comparable.

Shapes: H W pixels of the ground truth, P known pixels.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from perceptio.errors import InputError
from perceptio.interfaces import DepthMap
from perceptio.interfaces.maps import resize_maps
from perceptio.ops.depth_metrics import NEAREST_M, depth_errors
from perceptio.ops.intervals import bootstrap_ratio

Alignment = Literal["none", "median", "least_squares"]
"""`none`: metres as they are. `median`: scaled so that the medians agree (SfMLearner, arXiv 1704.07813).
`least_squares`: scale and shift of the disparity that best fit the true one (MiDaS, arXiv 1907.01341)."""
Crop = Literal["eigen_nyu", "eigen_kitti", "garg"]
"""The part of an image that published figures cover, as in the scripts of BTS (arXiv 1907.10326) and its successors.
`eigen_nyu`: rows 45 to 470 and columns 41 to 600 of NYUv2's 640x480. `eigen_kitti` and `garg`: those for KITTI by
Eigen et al. (arXiv 1406.2283) and by Garg et al. (arXiv 1603.04992)."""
_NYU_SIZE, _NYU_CROP = (480, 640), (slice(45, 471), slice(41, 601))
_KITTI_CROPS = {
    "eigen_kitti": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
}
"""First and last row, and first and last column, as shares of height and width; the last is excluded."""
LEAST_DISPARITY = 1e-3
"""Lower bound on a predicted disparity before it is inverted for the alignment of medians."""
ERRORS = ("absrel", "rmse", "rmse_log", "delta1", "delta2", "delta3")


def score_depth(
    answers: Iterable[tuple[DepthMap | None, DepthMap]],
    *,
    alignment: Alignment = "none",
    max_depth: float | None = None,
    crop: Crop | None = None,
) -> dict[str, Any]:
    """Return the figures of maps against their ground truth; see `mean_errors`.

    Args:
        answers: The predicted map, or None, and the true one in metres.
        alignment: How each is aligned to metres.
        max_depth: See `aligned_errors`.
        crop: See `aligned_errors`.
    """
    return mean_errors(
        None if predicted is None else aligned_errors(predicted, truth, alignment, max_depth, crop)
        for predicted, truth in answers
    )


def mean_errors(errors: Iterable[Mapping[str, float] | None]) -> dict[str, Any]:
    """Return the means of the errors of maps, with their 95% bootstrap intervals.

    Args:
        errors: Results of `aligned_errors`; None for a map that was not predicted.

    Returns:
        Each of `ERRORS` over the predicted maps, with its interval under `FIGURE_interval`; `count` of all maps, and
        `missing`, the number of maps that were not predicted.
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
    predicted: DepthMap,
    truth: DepthMap,
    alignment: Alignment,
    max_depth: float | None = None,
    crop: Crop | None = None,
) -> dict[str, float]:
    """Return the errors of one map: `ERRORS` by name, as `depth_errors` defines them.

    Args:
        predicted: The prediction, of any size; it is stretched to the size of the ground truth.
        truth: The ground truth in metres.
        alignment: How the prediction is aligned to metres.
        max_depth: Distance in metres beyond which the ground truth counts as unknown, and to which predictions are
            clipped, as in benchmarks (10 for NYUv2, 80 for KITTI); None: no limit.
        crop: The part of the ground truth that counts, and to which the prediction is aligned; None: all of it.

    Raises:
        InputError: The ground truth is not in metres, the prediction is not and needs alignment `none`, the ground
            truth does not have the size for `crop`, or none of its pixels is known within `max_depth` and `crop`.
    """
    if truth.unit != "metres":
        raise InputError(f"Depth is measured against a truth in metres, and this is in {truth.unit}.")
    true_HW = torch.from_numpy(truth.values_HW).double()
    height, width = true_HW.shape
    # Both comparisons are false for unknown depth, which is NaN; scripts omit nearer pixels, too.
    known_HW = true_HW >= NEAREST_M
    if max_depth is not None:
        known_HW &= true_HW <= max_depth
    if crop is not None:
        inside_HW = torch.zeros_like(known_HW)
        inside_HW[_within(crop, height, width)] = True
        known_HW &= inside_HW
    if not bool(known_HW.any()):
        limits = [f"within {max_depth} m"] if max_depth is not None else []
        limits += [f"in the crop {crop}"] if crop is not None else []
        where = " and ".join(["", *limits]).removeprefix(" and")
        raise InputError(f"No pixel of a true depth map is known{where}: leave the map out.")
    made_HW = resize_maps(torch.from_numpy(predicted.values_HW)[None, None], (height, width))[0, 0]
    true_P = true_HW[known_HW]
    farthest = float(true_P.max()) if max_depth is None else max_depth
    made_P = _in_metres(made_HW.double()[known_HW], predicted.unit, true_P, alignment, farthest)
    if max_depth is not None:
        made_P = made_P.clamp_max(max_depth)
    return {name: float(value_1) for name, value_1 in depth_errors(made_P[None], true_P[None]).items()}


def _within(crop: Crop, height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of a crop."""
    if crop == "eigen_nyu":
        if (height, width) != _NYU_SIZE:
            raise InputError(
                f"The crop eigen_nyu is of NYUv2's maps of {_NYU_SIZE[1]}x{_NYU_SIZE[0]} pixels, and a true depth "
                f"map is {width}x{height}: import the maps at their own size, or leave the crop out."
            )
        return _NYU_CROP
    top, bottom, left, right = _KITTI_CROPS[crop]
    return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))


def _in_metres(made_P: Tensor, unit: str, true_P: Tensor, alignment: Alignment, farthest: float) -> Tensor:
    """Return predicted depth in metres; values beyond `farthest` or behind the camera become `farthest`."""
    if alignment == "none":
        if unit != "metres":
            raise InputError(
                f"Depth in {unit} has no metres to be measured as they are: align it by median or least_squares."
            )
        return made_P
    if alignment == "median":
        metres_P = made_P if unit == "metres" else 1 / made_P.clamp_min(LEAST_DISPARITY)
        # NumPy's median, which scripts use, averages the middle two values; PyTorch's is the lower of them.
        return metres_P * float(np.median(true_P.numpy()) / max(np.median(metres_P.numpy()), NEAREST_M))
    disparity_P = made_P if unit == "disparity" else 1 / made_P.clamp_min(NEAREST_M)
    wanted_P = 1 / true_P.clamp_min(NEAREST_M)
    mean, wanted_mean = disparity_P.mean(), wanted_P.mean()
    variance = (disparity_P - mean).square().mean()
    covariance = ((disparity_P - mean) * (wanted_P - wanted_mean)).mean()
    scale = covariance / variance if float(variance) > 0 else torch.zeros_like(variance)
    fitted_P = wanted_mean + scale * (disparity_P - mean)
    return 1 / fitted_P.clamp_min(1 / farthest)
