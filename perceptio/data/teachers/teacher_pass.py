"""A depth teacher's pass over images: decoding runs ahead of the device, and writing behind it.

Threads decode and resize images, and resize and write depth maps, in code that releases Python's lock. Meanwhile the
device computes one batch after the other.

The last digits of an image's predicted depth depend on the batch size, because other sizes use other kernels.
Therefore each batch is logged before it is computed. A pass that continues repeats the batches that were begun, and
writes the same bytes as a pass that was never interrupted.

Shapes: B images, C channels, H W pixels of an image, h w pixels of the teacher's input.
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
from perceptio.ops.wording import number_of

logger = logging.getLogger(__name__)

DEPTH_RESIZE = "torch bilinear, to the size of the picture"
PENDING = 8
"""Maximum number of incomplete batches, of different image sizes, before one is processed as it is."""
LONG = 2
"""Images whose longer side is more than this times the shorter one form smaller batches."""
LONGEST_ERROR = 300
"""Maximum number of characters quoted from a teacher's exception."""
WORKERS = min(8, os.cpu_count() or 1)
"""Threads, each of which may hold one decoded image: 600 MB for one of the largest."""


@attrs.frozen(eq=False)
class Ready:
    """An image prepared for the teacher, and its original size [H, W]."""

    job: Job
    size: tuple[int, int]
    seen_Chw: Tensor


@attrs.frozen
class Broken:
    """An image that has no depth, and why."""

    job: Job
    reason: str


@attrs.frozen
class Written:
    """An image whose depth is written, and whether the depth is the same everywhere."""

    job: Job
    is_flat: bool


@attrs.define(kw_only=True)
class Findings:
    """The results collected during a pass.

    Attributes:
        broken: Why an image has no depth, by its path in the data folder; each reason names its image.
        flat: Images, by their own paths, for which the teacher predicts the same depth everywhere.
        computing_s: Seconds in which the teacher computed.
    """

    broken: dict[str, str] = attrs.Factory(dict)
    flat: list[str] = attrs.Factory(list)
    computing_s: float = 0.0

    def add(self, result: Written | Broken) -> None:
        """Record the result of an image."""
        if isinstance(result, Broken):
            self.broken[result.job.image] = result.reason
        elif result.is_flat:
            self.flat.append(str(result.job.picture))


def write_depth(
    jobs: Sequence[Job], teacher: Teacher, found: Findings, log: Path, *, batch_size: int, workers: int
) -> Iterator[int]:
    """Write the teacher's depth of every image that has none, and the image beside it.

    Args:
        jobs: All images, done or not.
        teacher: The teacher.
        found: Collects the results.
        log: The log of batches, of an interrupted pass and of this one; it need not exist.
        batch_size: Number of images of one size in a batch; fewer if they are elongated.
        workers: Number of threads that decode and write.

    Yields:
        The number of additional images written, for each batch.

    Raises:
        InputError: A batch does not fit into memory, or the teacher predicts no depth for any image of its first
            batch.
        InterfaceError: The teacher's output is not depth.
    """
    # The threads already use all cores, so none should start others for one image.
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    waiting = {job.image: job for job in jobs if not job.done}
    begun, rest = _begun(jobs, waiting, log)
    writing: list[Future[Written | Broken]] = []
    first = True
    with warnings.catch_warnings():  # Reading an image changes the filters, here from several threads.
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
    """Return the batches that were begun but not completed, whole, and the waiting jobs that are in none of them."""
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
    """Yield the batches that were begun, with these numbers of images, then new ones, which are logged."""
    for count in begun:
        yield from _batches(islice(pictures, count), batch_size, found)
    for batch in _batches(pictures, batch_size, found):
        append_line(log, [ready.job.image for ready in batch])
        yield batch


def _ahead(
    pool: ThreadPoolExecutor, jobs: Iterable[Job], teacher: Teacher, most: int
) -> Iterator[Ready | Broken]:
    """Yield the images in order, decoding at most `most` of them ahead."""
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
    """Yield batches of images with the same input size; record broken images."""
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
    """Return the depth [h, w] of each image, or why it has none; if a batch fails, try its images one by one."""
    try:
        depth_Bhw = teacher.depth(torch.stack([ready.seen_Chw for ready in batch]))
        return list(depth_Bhw.float().cpu())
    except torch.OutOfMemoryError:
        height, width = batch[0].seen_Chw.shape[1:]
        raise InputError(
            f"The device has no memory for {number_of(len(batch), 'picture')} of {width}x{height} pixels: lower the "
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
    """Stop early if the teacher fails on every image of the first batch."""
    broken = [result for result in results if isinstance(result, Broken)]
    if len(broken) == len(results):
        raise InputError(
            f"The teacher gives no depth of the first {number_of(len(broken), 'picture')}, so that its weights or "
            f"its code are to blame; of the first: {broken[0].reason}"
        )


def _written(writing: Sequence[Future[Written | Broken]], found: Findings) -> Iterator[int]:
    results = [future.result() for future in writing]
    for result in results:
        found.add(result)
    if count := sum(isinstance(result, Written) for result in results):
        yield count


def _write(ready: Ready, depth: Tensor | Broken, teacher: Teacher) -> Written | Broken:
    """Write the depth of an image, and then the image itself, whose copy marks the job as done."""
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
