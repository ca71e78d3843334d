"""The depth maps of data folders, as a depth tokenizer reads them.

Shapes: N maps, M held-out maps, H W pixels.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from perceptio.data.folder import FolderDataset
from perceptio.errors import DataError
from perceptio.interfaces import DepthSpec
from perceptio.interfaces.depth_maps import from_map, resize_depth
from perceptio.ops.files import disk_errors
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
    folder: str | Path,
    spec: DepthSpec,
    *,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The depth of a data folder's samples [N, 1, H, W] in a tokenizer's convention and size, in half precision.

    Args:
        folder: A folder in the format of `perceptio.data.folder`; samples without depth are passed over.
        spec: The tokenizer's.
        store: A folder on whose disk the maps are kept, in a file without a name; None: they are held in memory.
        progress: Called with how many samples are read, and of how many.

    Raises:
        DataError: The folder, or a map of it, cannot be used, or no sample has depth.
    """
    dataset = FolderDataset(folder)
    maps_N1HW = _room(_count(dataset), spec, store)
    for number, unit_1HW in enumerate(_maps_of(dataset, spec, progress)):
        maps_N1HW[number] = unit_1HW
    return maps_N1HW


def read_training_maps(
    folders: Sequence[DataFolder],
    spec: DepthSpec,
    *,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DepthMaps:
    """The depth maps of several folders, every `HELD_OUT`-th of each, and at least one, held out.

    Args:
        folders: Folders and their weights.
        spec: The tokenizer's.
        store: As for `read_depth_maps`.
        progress: Called with how many samples of a folder are read, and of how many.

    Raises:
        DataError: There is no folder, or one cannot be used or has a single map.
    """
    if not folders:
        raise DataError("The recipe names no data folder to train its depth tokenizer on: set data.folders.")
    datasets = [FolderDataset(folder.path) for folder in folders]
    counts = [_count(dataset) for dataset in datasets]
    held_out = [-(-count // HELD_OUT) for count in counts]
    for folder, count in zip(folders, counts, strict=True):
        if count < 2:
            raise DataError(
                f"{folder.path} has 1 depth map, and at least 2 are needed: one is held out of training."
            )
    maps = DepthMaps(
        training_N1HW=_room(sum(counts) - sum(held_out), spec, store),
        weights_N=torch.cat(
            [
                torch.full((count - held,), folder.weight / (count - held))
                for folder, count, held in zip(folders, counts, held_out, strict=True)
            ]
        ),
        held_out_M1HW=_room(sum(held_out), spec, store),
    )
    trained = held = 0
    for dataset in datasets:
        for number, unit_1HW in enumerate(_maps_of(dataset, spec, progress)):
            if number % HELD_OUT == 0:
                maps.held_out_M1HW[held] = unit_1HW
                held += 1
            else:
                maps.training_N1HW[trained] = unit_1HW
                trained += 1
    return maps


def _count(dataset: FolderDataset) -> int:
    """How many samples have depth.

    Raises:
        DataError: None has.
    """
    count = sum(record.depth is not None for record in dataset.records)
    if not count:
        raise DataError(f"No sample of {dataset.root} has a depth map to train a depth tokenizer on.")
    return count


def _room(count: int, spec: DepthSpec, store: Path | None) -> Tensor:
    """A tensor [count, 1, H, W] for maps, in memory or in a file that goes with it, however the process ends."""
    shape = (count, 1, *spec.image_size)
    if store is None:
        return torch.empty(shape, dtype=torch.float16)
    with disk_errors(store, DataError), tempfile.TemporaryFile(dir=store) as file:
        if hasattr(os, "posix_fallocate"):  # A mapped file that finds no room later would end the process.
            os.posix_fallocate(file.fileno(), 0, max(1, 2 * math.prod(shape)))
        return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))


def _maps_of(
    dataset: FolderDataset, spec: DepthSpec, progress: Callable[[int, int], None] | None
) -> Iterator[Tensor]:
    """The maps [1, H, W] of the samples that have depth, one after the other."""
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
            yield unit_11HW[0].half()
        if progress is not None:
            progress(number + 1, len(dataset))
