"""How well tokenizers of codes preserve their targets: for a set of maps, or one depth map of any size and unit.

Shapes: N maps, B batch, C channels, H W pixels, h w grid cells, L = h*w codes.
"""

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.errors import DataError, InterfaceError
from perceptio.interfaces import (
    DepthConvention,
    DepthMap,
    DepthTokenizer,
    PerceptionTokenizer,
    TrainableTokenizer,
    device_of,
    fill_unknown,
)
from perceptio.interfaces.depth_maps import from_map
from perceptio.interfaces.maps import resize_maps
from perceptio.ops.codebooks import code_counts, code_usage
from perceptio.ops.depth_metrics import DepthMeter, unit_distances
from perceptio.ops.eval_mode import in_eval_mode

BATCH_SIZE = 64


@torch.inference_mode()
def evaluate_tokenizer(tokenizer: PerceptionTokenizer, maps_NCHW: Tensor) -> dict[str, Any]:
    """Encode and decode maps, and compare them with the originals.

    Args:
        tokenizer: A trained tokenizer of a stream of codes; its mode is not changed.
        maps_NCHW: Floating-point maps as its `to_reconstruct` makes them from targets, NaN where unknown.

    Returns:
        The means of the tokenizer's `compare`, such as `absolute_error` in the units of the maps; `count` of maps;
        `codes_used` and `perplexity`. For depth also `ordinal` (the share of pairs of pixels in the right order), and
        in a metric convention the errors of `DepthMeter` in metres, such as `absrel`, `rmse` and `delta1`. A
        tokenizer of objects, or one that decodes with image features, is measured by the absolute error of the
        reconstruction in its training.

    Raises:
        InterfaceError: There is no map.
        DataError: A map has no known value.
    """
    if not len(maps_NCHW):
        raise InterfaceError("No map was given to measure the tokenizer on.")
    device, written = device_of(tokenizer), tokenizer.spec.stream.written
    tokenizer = in_eval_mode(tokenizer)
    depth = tokenizer.spec.convention if isinstance(tokenizer, DepthTokenizer) else None
    meter = None if depth is None else DepthMeter(metric=depth.metric)
    sums: dict[str, float] = {}
    counts_K = torch.zeros(sum(written.codebook_sizes), dtype=torch.int64)
    for maps_BCHW in maps_NCHW.float().split(BATCH_SIZE):
        codes_BL, made, figures = _compared(tokenizer, maps_BCHW.to(device))
        if meter is not None and depth is not None:
            meter.update(unit_distances(made.cpu(), depth), unit_distances(maps_BCHW, depth))
        for name, values_B in figures.items():
            sums[name] = sums.get(name, 0.0) + float(values_B.sum())
        counts_K += code_counts(codes_BL.cpu(), written)
    means = {name: total / len(maps_NCHW) for name, total in sums.items()}
    return means | ({"count": len(maps_NCHW)} if meter is None else meter.compute()) | code_usage(counts_K)


def _compared(tokenizer: PerceptionTokenizer, maps_BCHW: Tensor) -> tuple[Tensor, Any, Mapping[str, Tensor]]:
    """Return the codes [B, L] of maps, their reconstructions, and figures [B] that compare these with the maps."""
    spec = tokenizer.spec.stream
    if spec.per == "image" and spec.image_size is None:
        codes_BL = tokenizer.to_codes(maps_BCHW)
        made = tokenizer.from_codes(codes_BL)
        return codes_BL, made, tokenizer.compare(made, maps_BCHW)
    if not isinstance(tokenizer, TrainableTokenizer):
        raise InterfaceError(f"{type(tokenizer).__name__} cannot be measured without pictures.")
    reconstruction = tokenizer.reconstruct(fill_unknown(maps_BCHW)[0])
    error_B = (reconstruction.values - maps_BCHW).abs().flatten(1).nanmean(1)
    return reconstruction.codes_TL, reconstruction.values, {"absolute_error": error_B}


@attrs.frozen(kw_only=True, eq=False)
class DepthRoundTrip:
    """A depth map, its codes, and the map decoded from them.

    Attributes:
        codes_hw: The codes on their grid, int64.
        depth: The decoded map at the size of the given map: metres, or disparity in [0, 1] for a relative tokenizer.
        truth_HW: The given map in the unit of `depth`, NaN where unknown.
        figures: As from `evaluate_tokenizer`, but at the size of the given map and without the usage of codes; in a
            metric convention also `outside`, the share of known pixels nearer or farther than the tokenizer's range.
    """

    codes_hw: np.ndarray
    depth: DepthMap
    truth_HW: np.ndarray
    figures: dict[str, Any]


@torch.inference_mode()
def round_trip(tokenizer: DepthTokenizer, given: DepthMap) -> DepthRoundTrip:
    """Encode a depth map of any size, stretched to the tokenizer's size, decode it, and stretch it back.

    Raises:
        DataError: No pixel is known, or the tokenizer's convention is metric and the map is not.
    """
    tokenizer = in_eval_mode(tokenizer)
    spec, device = tokenizer.spec, device_of(tokenizer)
    convention = spec.convention
    unit_11HW = from_map(given, convention)
    small_11HW = resize_maps(unit_11HW, spec.image_size)
    if bool(small_11HW.isnan().all()):
        raise DataError("A depth map has too few known pixels to be seen at the depth tokenizer's size.")
    codes_1L = tokenizer.encode(small_11HW.to(device))
    made_11HW = resize_maps(tokenizer.decode(codes_1L).cpu(), given.values_HW.shape)
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
