"""A depth teacher's pass over pictures: decoding runs ahead of the device, and writing behind it.

Pictures are decoded and resized, and depth maps resized and written, by threads, in code that holds no lock of
Python's; the device computes one batch after another meanwhile.

Depth is stored as 16-bit disparity, each map scaled to its own minimum and maximum, which is all that a relative
depth convention keeps of it; a flat map is stored as one middle value.

Shapes: B pictures, H W pixels of a picture, h w pixels that the teacher sees.
"""

import filecmp
import os
import shutil
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from perceptio.data.folder.loading import DEPTH_LEVELS
from perceptio.data.teachers.depth_anything import DepthTeacher
from perceptio.errors import InputError
from perceptio.ops.files import new_file
from perceptio.ops.image_files import read_image

NORMALIZATION = f"each map from its own minimum and maximum to 1 and {DEPTH_LEVELS}, flat maps to the middle"
FLAT = 1e-6
"""A map whose values differ by less than this share of them is flat: the rest is rounding."""
PENDING = 8
"""So many batches of pictures of different sizes wait for company before one goes alone."""
LONG = 2
"""Pictures whose longer side is more than this times the shorter one share their batch with fewer others."""
WORKERS = min(8, os.cpu_count() or 1)
"""Threads, each of which may hold one decoded picture: 600 MB for one of the largest."""


@attrs.frozen(kw_only=True)
class Job:
    """A picture, and where in the data folder its picture and its depth lie."""

    picture: Path
    folder: Path
    image: str

    @property
    def copy(self) -> Path:
        """The picture in the data folder."""
        return self.folder / self.image

    @property
    def depth(self) -> str:
        """With the ending of the picture's name, as `a.jpg` and `a.png` are two pictures."""
        return f"depth/{self.image.removeprefix('images/')}.png"

    @property
    def done(self) -> bool:
        """Whether both are there."""
        copied = self.copy.is_file() and filecmp.cmp(self.picture, self.copy)
        return copied and (self.folder / self.depth).is_file()


@attrs.frozen(eq=False)
class Ready:
    """A picture as the teacher sees it, and the size [H, W] that it has."""

    job: Job
    size: tuple[int, int]
    seen_3hw: Tensor


@attrs.frozen
class Broken:
    """A picture that the teacher cannot see, and why."""

    job: Job
    reason: str


def write_depth(
    jobs: Iterable[Job], teacher: DepthTeacher, broken: dict[str, str], *, batch_size: int, workers: int
) -> Iterator[int]:
    """Write the teacher's depth of every picture, and the picture beside it.

    Args:
        jobs: What to do.
        teacher: Whose depth it is.
        broken: Filled with the reason for every picture that cannot be read or seen, by its path.
        batch_size: So many pictures of one size, or fewer long ones, go through the teacher at once.
        workers: Threads that decode and write.

    Yields:
        How many more are written, batch by batch.

    Raises:
        InputError: A batch does not fit into memory, or the teacher's depth is no number.
    """
    # Threads share the cores by being many: none of them is to start others for one picture.
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    writing: list[Future[None]] = []
    with warnings.catch_warnings():  # Reading a picture changes the filters, here from several threads.
        try:
            pictures = _ahead(pool, jobs, teacher, batch_size + workers)
            for batch in _batches(pictures, teacher, batch_size, broken):
                disparity_Bhw = teacher.disparity(torch.stack([ready.seen_3hw for ready in batch]))
                yield from _written(writing)
                writing = [
                    pool.submit(_write, ready, disparity_hw, teacher)
                    for ready, disparity_hw in zip(batch, disparity_Bhw, strict=True)
                ]
            yield from _written(writing)
        finally:
            pool.shutdown(cancel_futures=True)


def to_levels(disparity_HW: np.ndarray) -> np.ndarray:
    """A map as it is stored, uint16: its minimum is 1 and its maximum 65535; a flat one is 32768."""
    low, high = float(disparity_HW.min()), float(disparity_HW.max())
    if high - low <= FLAT * max(abs(low), abs(high)):
        return np.full(disparity_HW.shape, (1 + DEPTH_LEVELS) // 2, dtype=np.uint16)
    unit_HW = (disparity_HW.astype(np.float64) - low) / (high - low)
    return np.rint(1 + unit_HW * (DEPTH_LEVELS - 1)).astype(np.uint16)


def _ahead(
    pool: ThreadPoolExecutor, jobs: Iterable[Job], teacher: DepthTeacher, most: int
) -> Iterator[Ready | Broken]:
    """The pictures in order, at most so many of them decoded before they are asked for."""
    waiting: deque[Future[Ready | Broken]] = deque()
    for job in jobs:
        waiting.append(pool.submit(_decode, job, teacher))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _decode(job: Job, teacher: DepthTeacher) -> Ready | Broken:
    try:
        image_3HW = read_image(job.picture)
    except InputError as error:
        return Broken(job, str(error))
    height, width = image_3HW.shape[-2:]
    try:
        return Ready(job, (height, width), teacher.prepare(image_3HW))
    except InputError as error:
        return Broken(job, f"{job.picture}: {error}")


def _batches(
    pictures: Iterable[Ready | Broken], teacher: DepthTeacher, batch_size: int, broken: dict[str, str]
) -> Iterator[list[Ready]]:
    """Pictures that the teacher sees at one size; what is broken goes to `broken`."""
    waiting: dict[torch.Size, list[Ready]] = {}
    most_pixels = batch_size * LONG * teacher.image_size**2
    for picture in pictures:
        if isinstance(picture, Broken):
            broken[str(picture.job.picture)] = picture.reason
            continue
        shape = picture.seen_3hw.shape
        alike = waiting.setdefault(shape, [])
        alike.append(picture)
        if len(alike) >= min(batch_size, most_pixels // shape[1:].numel()):
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= PENDING * batch_size:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()


def _written(writing: Sequence[Future[None]]) -> Iterator[int]:
    for future in writing:
        future.result()
    if writing:
        yield len(writing)


def _write(ready: Ready, disparity_hw: Tensor, teacher: DepthTeacher) -> None:
    """The depth of a picture, then, so that it counts as done, the picture."""
    if not bool(disparity_hw.isfinite().all()):
        range_left = ", or its numbers too large for fp16: try bf16" if teacher.precision == "fp16" else ""
        raise InputError(
            f"The teacher gives {ready.job.picture} depth that is no number: its weights are damaged{range_left}."
        )
    disparity_HW = F.interpolate(disparity_hw[None, None], ready.size, mode="bilinear")[0, 0]
    with new_file(ready.job.folder / ready.job.depth) as file:
        Image.fromarray(to_levels(disparity_HW.numpy())).save(file, "PNG", compress_level=1)
    if ready.job.copy != ready.job.picture:
        with new_file(ready.job.copy) as file:
            shutil.copy2(ready.job.picture, file)
