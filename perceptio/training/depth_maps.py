"""The depth maps of data folders, as a depth tokenizer reads them, in memory.

Shapes: N maps, M held-out maps, H W pixels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.interfaces import DepthSpec
from perceptio.ops.depth_maps import from_map, resize_depth
from perceptio.recipe import DataFolder

HELD_OUT = 20
"""Of so many maps of a folder one is kept out of training, and measured on (ours)."""


@attrs.frozen(kw_only=True, eq=False)
class DepthMaps:
    """Maps to train on, and others to measure on, in half precision: a 320-pixel map takes 200 kB.

    Attributes:
        training_N1HW: Maps in [0, 1], NaN where unknown.
        weights_N: How often each is to be drawn: the weight of its folder, shared among the folder's maps.
        held_out_M1HW: Maps that are not among those for training.
    """

    training_N1HW: Tensor
    weights_N: Tensor
    held_out_M1HW: Tensor


def read_depth_maps(
    folder: str | Path, spec: DepthSpec, *, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """The depth of a data folder's samples [N, 1, H, W] in a tokenizer's convention and size, in half precision.

    Args:
        folder: A folder in the format of `perceptio.data.folder`; samples without depth are passed over.
        spec: The tokenizer's.
        progress: Called with how many samples are read, and of how many.

    Raises:
        DataError: The folder, or a map of it, cannot be used, or no sample has depth.
    """
    dataset = FolderDataset(folder)
    maps = []
    for number, record in enumerate(dataset.records):
        depth = dataset.depth(number)
        if depth is not None:
            try:
                unit_11HW = resize_depth(from_map(depth, spec.convention), spec.image_size)
            except DataError as error:
                raise DataError(f"{dataset.root / str(record.depth)}: {error}") from error
            if bool(unit_11HW.isnan().all()):
                height, width = spec.image_size
                raise DataError(
                    f"{dataset.root / str(record.depth)} has too few known pixels to be seen at {height}x{width}: "
                    "leave depth out of this sample."
                )
            maps.append(unit_11HW.half())
        if progress is not None:
            progress(number + 1, len(dataset))
    if not maps:
        raise DataError(f"No sample of {folder} has a depth map to train a depth tokenizer on.")
    return torch.cat(maps)


def read_training_maps(
    folders: Sequence[DataFolder],
    spec: DepthSpec,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> DepthMaps:
    """The depth maps of several folders, every `HELD_OUT`-th of each, and at least one, held out.

    Raises:
        DataError: There is no folder, or one cannot be used or has a single map.
    """
    if not folders:
        raise DataError("The recipe names no data folder to train its depth tokenizer on: set data.folders.")
    training, weights, held_out = [], [], []
    for folder in folders:
        maps_N1HW = read_depth_maps(folder.path, spec, progress=progress)
        if len(maps_N1HW) < 2:
            raise DataError(
                f"{folder.path} has 1 depth map, and at least 2 are needed: one is held out of training."
            )
        held = torch.arange(len(maps_N1HW)) % HELD_OUT == 0
        training.append(maps_N1HW[~held])
        held_out.append(maps_N1HW[held])
        count = len(training[-1])
        weights.append(torch.full((count,), folder.weight / count))
    return DepthMaps(
        training_N1HW=torch.cat(training), weights_N=torch.cat(weights), held_out_M1HW=torch.cat(held_out)
    )
