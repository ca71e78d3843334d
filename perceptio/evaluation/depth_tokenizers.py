"""What a depth tokenizer keeps of depth maps: over a set of them, and for one of any size and unit.

Shapes: N maps, B batch, H W pixels, h w grid cells, L = h*w codes.
"""

from typing import Any, Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.errors import DataError, InterfaceError
from perceptio.interfaces import DepthConvention, DepthMap, DepthTokenizer, device_of
from perceptio.interfaces.depth_maps import from_map, resize_depth
from perceptio.ops.codebooks import code_usage
from perceptio.ops.depth_metrics import DepthMeter, unit_distances
from perceptio.ops.eval_mode import in_eval_mode

BATCH_SIZE = 64


@torch.inference_mode()
def evaluate_depth_tokenizer(tokenizer: DepthTokenizer, depth_N1HW: Tensor) -> dict[str, Any]:
    """Encode and decode depth maps, and compare.

    Args:
        tokenizer: A trained tokenizer; its mode is left alone.
        depth_N1HW: Floating-point maps [N, 1, H, W] in its convention and at its size, NaN where unknown.

    Returns:
        `absolute_error` in units of the [0, 1] range, `ordinal` (the share of pairs of pixels in the right order),
        `count` maps, `codes_used` and `perplexity`; in a metric convention also the errors of
        `perceptio.ops.depth_metrics.DepthMeter` in metres, `absrel`, `rmse`, `delta1` and the rest.

    Raises:
        InterfaceError: There is no map.
        DataError: A map has no known pixel.
    """
    if not len(depth_N1HW):
        raise InterfaceError("No depth map was given to measure the depth tokenizer on.")
    convention, device = tokenizer.spec.convention, device_of(tokenizer)
    tokenizer = in_eval_mode(tokenizer)
    meter, codes, error = DepthMeter(metric=convention.metric), [], 0.0
    for depth_B1HW in depth_N1HW.float().split(BATCH_SIZE):
        codes_BL = tokenizer.encode(depth_B1HW.to(device))
        made_B1HW = tokenizer.decode(codes_BL).cpu()
        meter.update(unit_distances(made_B1HW, convention), unit_distances(depth_B1HW, convention))
        codes.append(codes_BL.cpu())
        error += float((made_B1HW - depth_B1HW).abs().flatten(1).nanmean(1).sum())
    usage = code_usage(torch.bincount(torch.cat(codes).flatten(), minlength=tokenizer.spec.codebook_size))
    return {"absolute_error": error / len(depth_N1HW)} | meter.compute() | usage


@attrs.frozen(kw_only=True, eq=False)
class DepthRoundTrip:
    """A depth map, its codes, and what they decode to.

    Attributes:
        codes_hw: The codes on their grid, int64.
        depth: What they decode to, at the size of the given map: metres, or disparity in [0, 1] where the tokenizer
            is relative.
        truth_HW: The given map in the unit of `depth`, NaN where unknown.
        figures: Of `evaluate_depth_tokenizer`, but at the size of the given map and without the usage of codes; in a
            metric convention also `outside`, the share of known pixels nearer or farther than the tokenizer's range.
    """

    codes_hw: np.ndarray
    depth: DepthMap
    truth_HW: np.ndarray
    figures: dict[str, Any]


@torch.inference_mode()
def round_trip(tokenizer: DepthTokenizer, given: DepthMap) -> DepthRoundTrip:
    """Encode a depth map of any size, stretched to the tokenizer's, decode it, and stretch it back.

    Raises:
        DataError: No pixel is known, or the tokenizer's convention is metric and the map is not.
    """
    tokenizer = in_eval_mode(tokenizer)
    spec, device = tokenizer.spec, device_of(tokenizer)
    convention = spec.convention
    unit_11HW = from_map(given, convention)
    small_11HW = resize_depth(unit_11HW, spec.image_size)
    if bool(small_11HW.isnan().all()):
        raise DataError("A depth map has too few known pixels to be seen at the depth tokenizer's size.")
    codes_1L = tokenizer.encode(small_11HW.to(device))
    made_11HW = resize_depth(tokenizer.decode(codes_1L).cpu(), given.values_HW.shape)
    figures: dict[str, Any] = {"absolute_error": float((made_11HW - unit_11HW).abs().nanmean())}
    meter = DepthMeter(metric=convention.metric)
    if convention.metric:
        truth_11HW, shown_11HW = (
            torch.from_numpy(given.values_HW)[None, None],
            convention.to_metres(made_11HW),
        )
        meter.update(shown_11HW, truth_11HW)
        figures["outside"] = _share_outside(truth_11HW, convention)
    else:
        truth_11HW, shown_11HW = unit_11HW, made_11HW
        meter.update(unit_distances(made_11HW, convention), unit_distances(unit_11HW, convention))
    unit: Literal["metres", "disparity"] = "metres" if convention.metric else "disparity"
    return DepthRoundTrip(
        codes_hw=codes_1L[0].view(spec.grid).cpu().numpy(),
        depth=DepthMap(values_HW=shown_11HW[0, 0].numpy(), unit=unit),
        truth_HW=truth_11HW[0, 0].numpy(),
        figures=figures | meter.compute(),
    )


def _share_outside(metres: Tensor, convention: DepthConvention) -> float:
    assert convention.near_m is not None and convention.far_m is not None
    known = metres[~metres.isnan()]
    return float(((known < convention.near_m) | (known > convention.far_m)).float().mean())
