"""Depth targets: a teacher's depth for a folder of pictures, as a data folder that recipes train on.

What made the targets stands beside them in `depth_targets.json`, and targets made otherwise are never mixed in.
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
    """What a pass has done.

    Attributes:
        folder: The data folder that holds the targets.
        made: Maps made by this pass.
        kept: Maps that were there before.
        broken: Pictures that have no depth, and why; each reason names its picture.
        flat: Pictures of which the teacher makes one depth everywhere.
        passed_over: Files whose names are no pictures'.
        waits_for: The shards of which pictures have no depth yet; the folder is complete when there is none.
        computing: The share of the pass's time in which the teacher computed; None where there was nothing to do.
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
    """Write the teacher's depth of every picture of a folder.

    A folder of pictures, looked through to its depths, becomes a data folder. A data folder gets depth of its own
    pictures, or another data folder does, which other sets of the same pictures can share. What is there from a
    former pass is kept. The folder can be trained on when the pass has come to its end, which broken pictures do not
    keep it from.

    Several processes may share the work: each is given a `shard`, whose pictures alone it does, and the one that ends
    last completes the folder. A pass without shards does whatever is missing, whoever began it.

    Args:
        pictures: A folder of pictures, or a data folder.
        out: The data folder to write; for a data folder, itself or another.
        teacher: Whose depth it is.
        tokenizer: Fingerprint of the depth tokenizer whose codes will be written beside the targets.
        batch_size: Pictures that go through the teacher at once; they have one size there, and long ones are fewer.
        workers: Threads that decode pictures and write depth maps.
        shard: Which share of the pictures is this process's; by default all of them.
        placing: Whether pictures of a folder are copied into the data folder, `"copy"`, or stay where they are and
            are named by a root, `"path"`. Those of a data folder stay where they are.
        progress: Called with how many pictures are dealt with, and of how many.

    Raises:
        DataError: There is no folder, or no picture in it; it or `out` is packed; `out` holds something else, or
            targets that were made otherwise, or cannot be written; or another process is at the same work, or at
            another number of shards.
        InputError: A batch does not fit into memory, or the teacher gives no depth of the first pictures.
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
    """What makes the targets, as `RECORD_FILE` says it."""
    return {
        "teacher": {"name": teacher.name, "weights_sha256": teacher.weights_hash},
        "preprocessing": {**teacher.preprocessing, "depth_resize": DEPTH_RESIZE},
        "normalization": normalization_of(teacher.spec),
        "tokenizer": tokenizer,
    }


@contextmanager
def _claimed(shard: Shard, out: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Keep a shard for this process, in a folder that says what makes its targets.

    Raises:
        DataError: Its targets were made otherwise, or another process is at the same work.
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
    """Write down that a shard has come to its end, and complete the data folder if it is the last.

    Args:
        shard: Which.
        work: The work of all shards.
        pictures: The folder of the pictures.
        out: The data folder.
        teacher: Whose depth it is.
        broken: Why pictures of this shard have no depth, by what the data folder calls them.

    Returns:
        Why pictures have no depth, those of all shards that have come to their ends, by their paths; and the shards
        that the folder waits for.

    Raises:
        DataError: No picture can be read.
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
    """The other shards of which pictures have no depth yet."""
    missing = {job.image for job in whole if not job.done} if shard.count > 1 else set()
    shards = (Shard(number, shard.count) for number in range(1, shard.count + 1))
    return tuple(other for other in shards if any(job.image in missing for job in other.of(jobs)))


def _complete(out: Path, teacher: Teacher, jobs: Sequence[Job], roots: Mapping[str, str]) -> None:
    """Make a data folder of depth that is all there: lines that are there get it, and others one of their own."""
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
    """Refuse a folder whose targets would be mixed with others."""
    file = out / RECORD_FILE
    if not file.is_file():
        return
    with parsing(DataError, f"{file} cannot be read ({{reason}}): make the targets again in another folder."):
        there, now = _facts(read_json(file)), _facts(record)
    if there["tokenizer"] is None:
        there["tokenizer"] = now["tokenizer"]  # Codes can be added to targets that have none.
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
    """What has to agree, by name; a teacher is its weights, whatever it was called."""
    # Targets of before there was a choice were made in fp32.
    done = {"precision": "fp32", **record["preprocessing"]}
    preprocessing = {f"preprocessing.{key}": value for key, value in done.items()}
    return {
        "teacher.weights_sha256": record["teacher"]["weights_sha256"],
        **preprocessing,
        "normalization": record["normalization"],
        "tokenizer": record["tokenizer"],
    }
