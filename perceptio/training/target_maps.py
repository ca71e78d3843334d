"""The targets of data folders, as a tokenizer of dense maps learns them.

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
"""Of so many maps of a folder one is kept out of training, and measured on (ours)."""

Progress = Callable[[int, int], None]
"""Called with how many samples of a folder are read, and of how many."""


@attrs.frozen(kw_only=True, eq=False)
class TargetMaps:
    """Maps to train on, and others to measure on, in half precision: one channel of 320x320 pixels takes 200 kB.

    Attributes:
        training_NCHW: What the tokenizer's training reconstructs of targets, NaN where unknown.
        weights_N: How often each is to be drawn: the weight of its folder, shared among the folder's maps.
        held_out_MCHW: Maps that are not among those for training.
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
    """What a tokenizer's training reconstructs of a data folder's targets [N, C, H, W], in half precision.

    Args:
        folder: A folder in the format of `perceptio.data.folder`; samples without the target are passed over.
        tokenizer: Whose targets they are: of a stream that is written per image one for each image, of a stream of
            objects one for each object that an answer is about.
        store: A folder on whose disk the maps are kept, in a file without a name; None: they are held in memory.
        progress: Called with how many samples are read, and of how many.

    Raises:
        DataError: The folder, or a target of it, cannot be used, or no sample has one.
        InterfaceError: The tokenizer makes something else than maps of its targets.
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
    """The targets of several folders, every `HELD_OUT`-th of each, and at least one, held out.

    Args:
        folders: Folders and their weights; those without such targets, as of conversations alone, are passed over.
        tokenizer: As for `read_target_maps`.
        store: As for `read_target_maps`.
        progress: Called with how many samples of a folder are read, and of how many.

    Raises:
        DataError: There is no folder, or one cannot be used or has a single target, or none has any.
        InterfaceError: The tokenizer makes something else than maps of its targets.
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
    """How many targets a folder has."""
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
    """The targets [C, H, W] of a folder, one after the other."""
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
    """What is reconstructed of one target of a file."""
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
    """A known number of maps in half precision, in memory or in a file that goes with them, however the process ends.

    Args:
        count: How many there will be.
        folder: On whose disk they are kept; None: in memory.
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
    """Memory for maps, or a file without a name that is mapped to it."""
    if folder is None:
        return torch.empty(shape, dtype=torch.float16)
    with disk_errors(folder, DataError), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # A mapped file that finds no room later would end the process.
            os.posix_fallocate(file.fileno(), 0, max(1, 2 * math.prod(shape)))
        return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))
