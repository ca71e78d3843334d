"""The targets of data folders as dense maps, to train a tokenizer on.

Shapes: N maps, M held-out maps, C channels, H W pixels.
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
from perceptio.errors import DataError, InterfaceError
from perceptio.interfaces import PerceptionTokenizer
from perceptio.interfaces.component import described
from perceptio.ops.files import disk_errors
from perceptio.recipe import DataFolder

HELD_OUT = 20
"""One of this many maps of a folder is held out of training for evaluation (ours)."""

Progress = Callable[[int, int], None]
"""Called with the number of samples read from a folder, and the total."""


@attrs.frozen(kw_only=True, eq=False)
class TargetMaps:
    """Maps for training and held-out maps, in half precision: one channel of 320x320 pixels takes 200 kB.

    Attributes:
        training_NCHW: Targets as the tokenizer's training reconstructs them, NaN where unknown.
        weights_N: Sampling weight of each map: the weight of its folder, divided among the folder's maps.
        held_out_MCHW: Maps that are not used for training.
    """

    training_NCHW: Tensor
    weights_N: Tensor
    held_out_MCHW: Tensor


def read_target_maps(
    folder: str | Path,
    tokenizer: PerceptionTokenizer,
    *,
    store: Path | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Return a data folder's targets as the tokenizer's training reconstructs them, [N, C, H, W], in half precision.

    Args:
        folder: A folder in the format of `perceptio.data.folder`; samples without the target are skipped.
        tokenizer: The tokenizer. For a stream that is written per image there is one map per image; for a stream of
            objects, one for each object that an answer is about.
        store: Folder on whose disk the maps are kept, in an unnamed temporary file; None: they are held in memory.
        progress: Called with the number of samples read, and the total.

    Raises:
        DataError: The folder or one of its targets cannot be used, or no sample has a target.
        InterfaceError: The tokenizer does not turn its targets into maps.
    """
    dataset = FolderDataset(folder)
    if not (count := _count(dataset, tokenizer)):
        raise _without_targets(str(dataset.name), tokenizer)
    maps = _Store(count, store)
    for map_CHW in _maps_of(dataset, tokenizer, progress):
        maps.add(map_CHW)
    return maps.held()


def read_training_maps(
    folders: Sequence[DataFolder],
    tokenizer: PerceptionTokenizer,
    *,
    store: Path | None = None,
    progress: Progress | None = None,
) -> TargetMaps:
    """Return the targets of several folders, with every `HELD_OUT`-th of each, and at least one, held out.

    Args:
        folders: Folders and their weights; folders without such targets, such as plain conversations, are skipped.
        tokenizer: See `read_target_maps`.
        store: See `read_target_maps`.
        progress: Called with the number of samples read from a folder, and the total.

    Raises:
        DataError: There is no folder, a folder cannot be used or has only one target, or no folder has a target.
        InterfaceError: The tokenizer does not turn its targets into maps.
    """
    if not folders:
        raise DataError("The recipe names no data folder to train a tokenizer on: set data.folders.")
    opened = [FolderDataset(folder.path) for folder in folders]
    found = list(zip(folders, opened, [_count(dataset, tokenizer) for dataset in opened], strict=True))
    if not any(count for *_, count in found):
        raise _without_targets(", ".join(str(dataset.name) for dataset in opened), tokenizer)
    folders, datasets, counts = zip(*[one for one in found if one[-1]], strict=True)
    held_out = [-(-count // HELD_OUT) for count in counts]
    for folder, count in zip(folders, counts, strict=True):
        if count < 2:
            raise DataError(
                f"{folder.path} has 1 target {tokenizer.spec.stream.target!r}, and at least 2 are needed: one is "
                "held out of training."
            )
    weights = [
        torch.full((count - held,), folder.weight / (count - held))
        for folder, count, held in zip(folders, counts, held_out, strict=True)
    ]
    trained_on, measured_on = _Store(sum(counts) - sum(held_out), store), _Store(sum(held_out), store)
    for dataset in datasets:
        for number, map_CHW in enumerate(_maps_of(dataset, tokenizer, progress)):
            (trained_on if number % HELD_OUT else measured_on).add(map_CHW)
    return TargetMaps(
        training_NCHW=trained_on.held(), weights_N=torch.cat(weights), held_out_MCHW=measured_on.held()
    )


def _count(dataset: FolderDataset, tokenizer: PerceptionTokenizer) -> int:
    """Return the number of targets in a folder."""
    spec = tokenizer.spec.stream
    having = dataset.with_target(spec.target).tolist()
    return len(having) if spec.per == "image" else sum(len(dataset.records[n].objects) for n in having)


def _without_targets(where: str, tokenizer: PerceptionTokenizer) -> DataError:
    return DataError(
        f"No sample of {where} has the target {tokenizer.spec.stream.target!r} to train a tokenizer on."
    )


def _maps_of(
    dataset: FolderDataset, tokenizer: PerceptionTokenizer, progress: Progress | None
) -> Iterator[Tensor]:
    """Yield the targets [C, H, W] of a folder."""
    spec = tokenizer.spec.stream
    for number, record in enumerate(dataset.records):
        file = record.target_file(spec.target)
        if file is not None:
            if spec.per == "image":
                raw = [dataset.target(number, spec.target)]
            else:
                masks = dataset.object_masks(number)
                raw = [masks[one] for one in record.objects]
            for one in raw:
                yield _map_of(one, tokenizer, dataset.files.where(file))
        if progress is not None:
            progress(number + 1, len(dataset))


def _map_of(raw: object, tokenizer: PerceptionTokenizer, file: Path | str) -> Tensor:
    """Return one target of a file as the map to reconstruct."""
    try:
        made = tokenizer.to_reconstruct(tokenizer.targets([raw]))
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    if not isinstance(made, Tensor) or made.ndim != 4 or len(made) != 1:
        raise InterfaceError(
            f"{tokenizer.known_as}.to_reconstruct made {described(made)} of one target; it must be [1, C, H, W]."
        )
    if bool(made.isnan().all()):
        height, width = made.shape[-2:]
        raise DataError(
            f"{file} has too few known pixels to be seen at {height}x{width}: leave it out of this sample."
        )
    return made[0]


class _Store:
    """A known number of maps in half precision, in memory or in a file that the system deletes with the process.

    Args:
        count: Number of maps that will be added.
        folder: Folder on whose disk they are kept; None: in memory.
    """

    def __init__(self, count: int, folder: Path | None) -> None:
        self._count, self._folder, self._added = count, folder, 0
        self._maps_NCHW: Tensor | None = None

    def add(self, map_CHW: Tensor) -> None:
        if self._maps_NCHW is None:
            self._maps_NCHW = _allocated((self._count, *map_CHW.shape), self._folder)
        self._maps_NCHW[self._added] = map_CHW.half()
        self._added += 1

    def held(self) -> Tensor:
        assert self._maps_NCHW is not None and self._added == self._count
        return self._maps_NCHW


def _allocated(shape: tuple[int, ...], folder: Path | None) -> Tensor:
    """Return memory for maps, or an unnamed file that is mapped into memory."""
    if folder is None:
        return torch.empty(shape, dtype=torch.float16)
    with disk_errors(folder, DataError), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(
            os, "posix_fallocate"
        ):  # If the disk filled up later, access to the map would kill the process.
            os.posix_fallocate(file.fileno(), 0, max(1, 2 * math.prod(shape)))
        return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))
