"""A depth teacher's pass over pictures: decoding runs ahead of the device, and writing behind it.

Pictures are decoded and resized, and depth maps resized and written, by threads, in code that holds no lock of
Python's; the device computes one batch after another meanwhile.

A network's depth of a picture depends, in its last digits, on how many pictures go through it at once, for a batch of
another size is computed by other kernels. So each batch is put down in a log before it is computed: a pass that goes
on makes up the batches that were begun as they were, and ends in the same bytes as one that was never stopped.

Shapes: B pictures, C channels, H W pixels of a picture, h w pixels that the teacher sees.
"""

import logging
import os
import shutil
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import attrs
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from perceptio.data.teachers.jobs import Job
from perceptio.data.teachers.levels import is_flat, problem, to_levels
from perceptio.errors import InputError, InterfaceError, quoted
from perceptio.interfaces import Teacher
from perceptio.ops.files import new_file
from perceptio.ops.image_files import read_image
from perceptio.ops.json_files import append_line, read_log, rewrite_log

logger = logging.getLogger(__name__)

DEPTH_RESIZE = "torch bilinear, to the size of the picture"
PENDING = 8
"""So many batches of pictures of different sizes wait for company before one goes alone."""
LONG = 2
"""Pictures whose longer side is more than this times the shorter one share their batch with fewer others."""
LONGEST_ERROR = 300
"""Characters that a message quotes of what a teacher raised."""
WORKERS = min(8, os.cpu_count() or 1)
"""Threads, each of which may hold one decoded picture: 600 MB for one of the largest."""


@attrs.frozen(eq=False)
class Ready:
    """A picture as the teacher sees it, and the size [H, W] that it has."""

    job: Job
    size: tuple[int, int]
    seen_Chw: Tensor


@attrs.frozen
class Broken:
    """A picture that has no depth, and why."""

    job: Job
    reason: str


@attrs.frozen
class Written:
    """A picture whose depth is written, and whether it is one depth everywhere."""

    job: Job
    is_flat: bool


@attrs.define(kw_only=True)
class Findings:
    """What a pass finds on its way.

    Attributes:
        broken: Why a picture has no depth, by its path in the data folder; each reason names its picture.
        flat: Pictures, by their own paths, of which the teacher makes one depth everywhere.
        computing_s: Seconds in which the teacher computed.
    """

    broken: dict[str, str] = attrs.Factory(dict)
    flat: list[str] = attrs.Factory(list)
    computing_s: float = 0.0

    def add(self, result: Written | Broken) -> None:
        """Take down what is to be said of a picture."""
        if isinstance(result, Broken):
            self.broken[result.job.image] = result.reason
        elif result.is_flat:
            self.flat.append(str(result.job.picture))


def write_depth(
    jobs: Sequence[Job], teacher: Teacher, found: Findings, log: Path, *, batch_size: int, workers: int
) -> Iterator[int]:
    """Write the teacher's depth of every picture that has none, and the picture beside it.

    Args:
        jobs: All pictures, whether they are done or not.
        teacher: Whose depth it is.
        found: Filled on the way.
        log: The log of batches, of a pass that was stopped, and of this one; it need not be there.
        batch_size: So many pictures of one size, or fewer long ones, go through the teacher at once.
        workers: Threads that decode and write.

    Yields:
        How many more are written, batch by batch.

    Raises:
        InputError: A batch does not fit into memory, or the teacher gives no depth of any picture of its first batch.
        InterfaceError: The teacher makes something else than depth.
    """
    # Threads share the cores by being many: none of them is to start others for one picture.
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    waiting = {job.image: job for job in jobs if not job.done}
    begun, rest = _begun(jobs, waiting, log)
    writing: list[Future[Written | Broken]] = []
    first = True
    with warnings.catch_warnings():  # Reading a picture changes the filters, here from several threads.
        try:
            pictures = _ahead(pool, chain(*begun, rest), teacher, batch_size + workers)
            for batch in _all_batches(pictures, [len(one) for one in begun], batch_size, found, log):
                began = time.perf_counter()
                depths = _depths(batch, teacher)
                found.computing_s += time.perf_counter() - began
                yield from _written(writing, found)
                writing = [
                    pool.submit(_write, ready, depth, teacher)
                    for ready, depth in zip(batch, depths, strict=True)
                    if ready.job.image in waiting
                ]
                if first:
                    _check_first([future.result() for future in writing])
                    first = False
            yield from _written(writing, found)
        finally:
            pool.shutdown(cancel_futures=True)


def _begun(jobs: Sequence[Job], waiting: Mapping[str, Job], log: Path) -> tuple[list[list[Job]], list[Job]]:
    """The batches that were begun and did not come to their end, whole, and what waits and is in none of them."""
    logged, torn = read_log(log)
    if torn is not None:
        rewrite_log(log, logged)
    by_image = {job.image: job for job in jobs}
    batches = [[by_image[image] for image in images if image in by_image] for images in logged]
    begun = [batch for batch in batches if any(job.image in waiting for job in batch)]
    known = {job.image for batch in begun for job in batch}
    return begun, [job for image, job in waiting.items() if image not in known]


def _all_batches(
    pictures: Iterator[Ready | Broken], begun: Sequence[int], batch_size: int, found: Findings, log: Path
) -> Iterator[list[Ready]]:
    """The batches that were begun, of so many pictures each, and those that the rest makes, which are put down."""
    for count in begun:
        yield from _batches(islice(pictures, count), batch_size, found)
    for batch in _batches(pictures, batch_size, found):
        append_line(log, [ready.job.image for ready in batch])
        yield batch


def _ahead(
    pool: ThreadPoolExecutor, jobs: Iterable[Job], teacher: Teacher, most: int
) -> Iterator[Ready | Broken]:
    """The pictures in order, at most so many of them decoded before they are asked for."""
    waiting: deque[Future[Ready | Broken]] = deque()
    for job in jobs:
        waiting.append(pool.submit(_decode, job, teacher))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _decode(job: Job, teacher: Teacher) -> Ready | Broken:
    try:
        image_3HW = read_image(job.picture)
    except InputError as error:
        return Broken(job, str(error))
    height, width = image_3HW.shape[-2:]
    try:
        return Ready(job, (height, width), teacher.prepare(image_3HW))
    except InputError as error:
        return Broken(job, f"{job.picture}: {error}")
    except InterfaceError:
        raise
    except Exception as error:
        return _failed(job, error)


def _batches(pictures: Iterable[Ready | Broken], batch_size: int, found: Findings) -> Iterator[list[Ready]]:
    """Pictures that the teacher sees at one size; what is broken goes to the findings."""
    waiting: dict[torch.Size, list[Ready]] = {}
    for picture in pictures:
        if isinstance(picture, Broken):
            found.add(picture)
            continue
        shape = picture.seen_Chw.shape
        alike = waiting.setdefault(shape, [])
        alike.append(picture)
        most_pixels = batch_size * LONG * min(shape[1:]) ** 2
        if len(alike) >= min(batch_size, most_pixels // shape[1:].numel()):
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= PENDING * batch_size:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()


def _depths(batch: Sequence[Ready], teacher: Teacher) -> list[Tensor | Broken]:
    """The depth [h, w] of each picture, or why it has none. Of a batch that fails, pictures are tried one by one."""
    try:
        depth_Bhw = teacher.depth(torch.stack([ready.seen_Chw for ready in batch]))
        return list(depth_Bhw.float().cpu())
    except torch.OutOfMemoryError:
        height, width = batch[0].seen_Chw.shape[1:]
        raise InputError(
            f"{len(batch)} pictures of {width}x{height} pixels do not fit into the memory of the device: lower the "
            "batch size (--batch-size), or else the size that the teacher sees (--image-size)."
        ) from None
    except InterfaceError:
        raise
    except Exception as error:
        if len(batch) == 1:
            return [_failed(batch[0].job, error)]
        return [depth for ready in batch for depth in _depths([ready], teacher)]


def _failed(job: Job, error: Exception) -> Broken:
    logger.info("The teacher fails on %s", job.picture, exc_info=error)
    said = quoted(str(error), LONGEST_ERROR)[1:-1] or "without a word"
    return Broken(job, f"{job.picture}: the teacher fails on it ({type(error).__name__}: {said}).")


def _check_first(results: Sequence[Written | Broken]) -> None:
    """Refuse a teacher that is of no use before it has gone through a whole folder."""
    broken = [result for result in results if isinstance(result, Broken)]
    if len(broken) == len(results):
        raise InputError(
            f"The teacher gives no depth of any of the first {len(broken)} pictures, so that its weights or its code "
            f"are to blame; of the first: {broken[0].reason}"
        )


def _written(writing: Sequence[Future[Written | Broken]], found: Findings) -> Iterator[int]:
    results = [future.result() for future in writing]
    for result in results:
        found.add(result)
    if count := sum(isinstance(result, Written) for result in results):
        yield count


def _write(ready: Ready, depth: Tensor | Broken, teacher: Teacher) -> Written | Broken:
    """The depth of a picture, then, so that it counts as done, the picture."""
    if isinstance(depth, Broken):
        return depth
    job, spec = ready.job, teacher.spec
    depth_HW = F.interpolate(depth[None, None], ready.size, mode="bilinear")[0, 0].numpy()
    if why := problem(depth_HW, spec):
        too_large = "; in fp16 numbers grow too large: try bf16"
        hint = too_large if teacher.preprocessing.get("precision") == "fp16" else ""
        return Broken(job, f"{job.picture}: the teacher gives depth that {why}{hint}.")
    with new_file(job.folder / job.depth) as file:
        Image.fromarray(to_levels(depth_HW, spec)).save(file, "PNG", compress_level=1)
    if job.copied:
        with new_file(job.copy) as file:
            shutil.copy2(job.picture, file)
    return Written(job, is_flat=is_flat(depth_HW))
