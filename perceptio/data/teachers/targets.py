"""Depth targets: a teacher's depth for a folder of images, as a data folder for training.

`depth_targets.json` beside the targets records how they were made, and targets made differently are never mixed in.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import attrs

from perceptio.data.folder.dataset_info import INFO_FILE, DatasetInfo, parse_info
from perceptio.data.folder.places import check_unpacked
from perceptio.data.folder.records import LINES_FILE
from perceptio.data.teachers.jobs import Job, Jobs, Placing, is_data_folder, jobs_of
from perceptio.data.teachers.levels import info_of, normalization_of
from perceptio.data.teachers.shards import Shard, claim, finish, forget, is_begun, log_of, one_at_a_time
from perceptio.data.teachers.teacher_pass import DEPTH_RESIZE, WORKERS, Findings, write_depth
from perceptio.errors import DataError, quoted
from perceptio.interfaces import Teacher
from perceptio.ops.files import disk_errors, is_free, new_file
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import format_json, parse_json, read_json, read_lines, write_json

RECORD_FILE = "depth_targets.json"
WHOLE = Shard()


@attrs.frozen(kw_only=True)
class TargetsReport:
    """The results of a pass.

    Attributes:
        folder: The data folder with the targets.
        made: Number of maps made by this pass.
        kept: Number of maps that existed before.
        broken: Images that have no depth, and why; each reason names its image.
        flat: Images for which the teacher predicts the same depth everywhere.
        passed_over: Files that are not images according to their names.
        waits_for: Shards with images that have no depth yet; the folder is complete if there are none.
        computing: The share of the pass's time in which the teacher computed; None if there was nothing to do.
    """

    folder: Path
    made: int
    kept: int
    broken: Mapping[str, str]
    flat: tuple[str, ...]
    passed_over: tuple[str, ...]
    waits_for: tuple[Shard, ...] = ()
    computing: float | None = None


def write_depth_targets(
    pictures: Path,
    out: Path,
    teacher: Teacher,
    *,
    tokenizer: str | None = None,
    batch_size: int = 8,
    workers: int = WORKERS,
    shard: Shard = WHOLE,
    placing: Placing = "copy",
    progress: Callable[[int, int], None] | None = None,
) -> TargetsReport:
    """Write the teacher's depth of every image of a folder.

    A folder of images, including its subfolders, becomes a data folder. For a data folder, the depth goes into the
    folder itself, or into another data folder, which other sets of the same images can share. Targets of an earlier
    pass are kept. The folder can be used for training when the pass has ended, even if some images are broken.

    Several processes may share the work: each gets a `shard` and processes only its images, and the last one to end
    completes the folder. A pass without shards does whatever is missing, whoever started it.

    Args:
        pictures: A folder of images, or a data folder.
        out: The data folder to write; for a data folder, itself or another.
        teacher: The teacher.
        tokenizer: Fingerprint of the depth tokenizer whose codes will be written beside the targets.
        batch_size: Number of images in a batch; they have one input size, and elongated images form smaller batches.
        workers: Number of threads that decode images and write depth maps.
        shard: The share of the images for this process; by default all of them.
        placing: Whether images of a folder are copied into the data folder, `"copy"`, or stay where they are and are
            named by a root, `"path"`. Images of a data folder always stay.
        progress: Called with the number of images done, and the total.

    Raises:
        DataError: The folder does not exist or has no image; it or `out` is packed; `out` holds something else, or
            targets that were made differently, or cannot be written; or another process does the same work, or uses
            another number of shards.
        InputError: A batch does not fit into memory, or the teacher predicts no depth for the first images.
    """
    check_folders(pictures, out)
    if not pictures.is_dir():
        raise DataError(f"There is no folder {pictures}: name one with pictures in it.")
    record = _record_of(teacher, tokenizer)
    _check_place(out, in_place=is_data_folder(pictures) and out.resolve() == pictures.resolve())
    _check_record(out, record)
    work = jobs_of(pictures, out, placing)
    own, found = shard.of(work.jobs), Findings()
    done = kept = sum(job.done for job in own)
    with disk_errors(out, DataError), _claimed(shard, out, record):
        began = time.perf_counter()
        log = log_of(shard, out)
        for more in chain([0], write_depth(own, teacher, found, log, batch_size=batch_size, workers=workers)):
            done += more
            if progress is not None:
                progress(done + len(found.broken) + len(work.unlisted), len(own) + len(work.unlisted))
        seconds = time.perf_counter() - began
        broken, waits_for = _finish(shard, work, pictures, out, teacher, found.broken)
    return TargetsReport(
        folder=out,
        made=done - kept,
        kept=kept,
        broken=broken,
        flat=tuple(found.flat),
        passed_over=work.passed_over,
        waits_for=waits_for,
        computing=found.computing_s / seconds if done > kept else None,
    )


def _record_of(teacher: Teacher, tokenizer: str | None) -> dict[str, Any]:
    """Return how the targets are made, as recorded in `RECORD_FILE`."""
    return {
        "teacher": {"name": teacher.name, "weights_sha256": teacher.weights_hash},
        "preprocessing": {**teacher.preprocessing, "depth_resize": DEPTH_RESIZE},
        "normalization": normalization_of(teacher.spec),
        "tokenizer": tokenizer,
    }


@contextmanager
def _claimed(shard: Shard, out: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Lock a shard for this process, in a folder that records how its targets are made.

    Raises:
        DataError: Its targets were made differently, or another process does the same work.
    """
    with ExitStack() as held:
        with one_at_a_time(out):
            _check_record(out, record)
            held.enter_context(claim(shard, out))
            write_json(out / RECORD_FILE, record)
        yield


def _finish(
    shard: Shard, work: Jobs, pictures: Path, out: Path, teacher: Teacher, broken: Mapping[str, str]
) -> tuple[dict[str, str], tuple[Shard, ...]]:
    """Record that a shard has ended, and complete the data folder if it is the last.

    Args:
        shard: The shard.
        work: The work of all shards.
        pictures: The folder of the images.
        out: The data folder.
        teacher: The teacher.
        broken: Why images of this shard have no depth, by their names in the data folder.

    Returns:
        Why images of all ended shards have no depth, by their paths; and the shards that the folder waits for.

    Raises:
        DataError: No image can be read.
    """
    with one_at_a_time(out):
        reasons = finish(shard, out, broken)
        whole = [job for job in work.jobs if job.image not in reasons]
        failed = {str(job.picture): reasons[job.image] for job in work.jobs if job.image in reasons}
        without_depth = {**work.unlisted, **failed}
        waits_for = _waits_for(work.jobs, whole, shard)
        if not waits_for:
            if not whole:
                first = next(iter(without_depth.values()))
                raise DataError(f"No picture in {pictures} can be read; of the first: {first}")
            _complete(out, teacher, whole, work.roots)
            forget(out)
    return without_depth, waits_for


def check_folders(pictures: Path, out: Path) -> None:
    """Refuse packed folders, before a teacher is loaded.

    Raises:
        DataError: One of them is packed, or an address.
    """
    for folder in (pictures, out):
        check_unpacked(folder, "a teacher reads and writes")


def _waits_for(jobs: Sequence[Job], whole: Sequence[Job], shard: Shard) -> tuple[Shard, ...]:
    """Return the other shards with images that have no depth yet."""
    missing = {job.image for job in whole if not job.done} if shard.count > 1 else set()
    shards = (Shard(number, shard.count) for number in range(1, shard.count + 1))
    return tuple(other for other in shards if any(job.image in missing for job in other.of(jobs)))


def _complete(out: Path, teacher: Teacher, jobs: Sequence[Job], roots: Mapping[str, str]) -> None:
    """Complete a data folder whose depth maps all exist: add depth to existing lines, and lines for other images."""
    made = {job.image: job for job in jobs}
    there = parse_info(out) if (out / INFO_FILE).is_file() else DatasetInfo()
    info = attrs.evolve(info_of(teacher.spec), maps=there.maps, roots={**there.roots, **roots})
    write_json(out / INFO_FILE, info.to_json())
    lines, listed = out / LINES_FILE, set()
    with new_file(lines) as new, new.open("w", encoding="utf-8") as file:
        for line in read_lines(lines) if lines.is_file() else ():
            sample = parse_json(line.text)
            if (job := made.get(sample.get("image"))) is not None:
                sample["depth"] = job.depth
                listed.add(job.image)
            file.write(format_json(sample))
        for job in (job for image, job in made.items() if image not in listed):
            file.write(format_json({"id": job.name, "image": job.image, "turns": [], "depth": job.depth}))


def _check_place(out: Path, *, in_place: bool) -> None:
    """Refuse a folder that holds something else."""
    if (out / RECORD_FILE).is_file() or is_begun(out):
        return
    if in_place and parse_info(out).depth_unit is not None:
        raise DataError(
            f"{out} has depth of its own already: take it out of {INFO_FILE} and {LINES_FILE} first, or leave it."
        )
    if not in_place and not is_free(out):
        raise DataError(f"{out} is not empty and holds no depth targets: choose another --out, or remove it.")


def _check_record(out: Path, record: Mapping[str, Any]) -> None:
    """Refuse a folder whose targets were made differently."""
    file = out / RECORD_FILE
    if not file.is_file():
        return
    with parsing(DataError, f"{file} cannot be read ({{reason}}): make the targets again in another folder."):
        there, now = _facts(read_json(file)), _facts(record)
    if there["tokenizer"] is None:
        there["tokenizer"] = now["tokenizer"]  # Codes can be added to targets without codes.
    differing = [
        f"{key[:80]} (there {quoted(there.get(key))}, now {quoted(now.get(key))})"
        for key in {**there, **now}
        if there.get(key) != now.get(key)
    ]
    if differing:
        raise DataError(
            f"{out} holds depth targets that were made otherwise, and they are not mixed; what differs: "
            f"{'; '.join(differing)}. Choose another --out, or make them as they were made."
        )


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must agree, by name; a teacher is identified by its weights, not its name."""
    # Targets of earlier versions, without a choice of precision, were made in fp32.
    done = {"precision": "fp32", **record["preprocessing"]}
    preprocessing = {f"preprocessing.{key}": value for key, value in done.items()}
    return {
        "teacher.weights_sha256": record["teacher"]["weights_sha256"],
        **preprocessing,
        "normalization": record["normalization"],
        "tokenizer": record["tokenizer"],
    }
