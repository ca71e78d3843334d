"""Depth targets: a teacher's depth for a folder of pictures, as a data folder that recipes train on.

What made the targets stands beside them in `depth_targets.json`, and targets made otherwise are never mixed in.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import attrs

from perceptio.data.folder.dataset_info import INFO_FILE, parse_info
from perceptio.data.folder.files import Files
from perceptio.data.folder.records import LINES_FILE, Problem, parse_lines
from perceptio.data.teachers.levels import info_of, normalization_of
from perceptio.data.teachers.shards import Shard, claim, finish, forget, is_begun, log_of, one_at_a_time
from perceptio.data.teachers.teacher_pass import DEPTH_RESIZE, WORKERS, Findings, Job, write_depth
from perceptio.errors import DataError, quoted
from perceptio.interfaces import Teacher
from perceptio.ops.files import disk_errors, is_free
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import parse_json, read_json, read_lines, rewrite_log, write_json
from perceptio.ops.paths import resolved_inside, why_not_inside

RECORD_FILE = "depth_targets.json"
WHOLE = Shard()
PICTURES = frozenset(
    f".{ending}"
    for ending in "avif bmp gif heic jfif jp2 jpeg jpg mpo pgm png ppm tif tiff webp".split()  # noqa: SIM905
)
"""Endings of pictures' names: such a file is either read or reported as broken."""


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
    progress: Callable[[int, int], None] | None = None,
) -> TargetsReport:
    """Write the teacher's depth of every picture of a folder.

    A folder of pictures, looked through to its depths, becomes a data folder with copies of them; a data folder gets
    depth of its own pictures. What is there from a former pass is kept. The folder can be trained on when the pass
    has come to its end; broken pictures do not stop it.

    Several processes may share the work: each is given a `shard`, whose pictures alone it does, and the one that ends
    last completes the folder. A pass without shards does whatever is missing, whoever began it.

    Args:
        pictures: A folder of pictures, or a data folder.
        out: The data folder to write; for a data folder, itself.
        teacher: Whose depth it is.
        tokenizer: Fingerprint of the depth tokenizer whose codes will be written beside the targets.
        batch_size: Pictures that go through the teacher at once; they have one size there, and long ones are fewer.
        workers: Threads that decode pictures and write depth maps.
        shard: Which share of the pictures is this process's; by default all of them.
        progress: Called with how many pictures are dealt with, and of how many.

    Raises:
        DataError: There is no folder, or no picture in it; `out` holds something else, or targets that were made
            otherwise, or cannot be written; or another process is at the same work, or at another number of shards.
        InputError: A batch does not fit into memory, or the teacher gives no depth of the first pictures.
    """
    if not pictures.is_dir():
        raise DataError(f"There is no folder {pictures}: name one with pictures in it.")
    record = {
        "teacher": {"name": teacher.name, "weights_sha256": teacher.weights_hash},
        "preprocessing": {**teacher.preprocessing, "depth_resize": DEPTH_RESIZE},
        "normalization": normalization_of(teacher.spec),
        "tokenizer": tokenizer,
    }
    is_data = (pictures / INFO_FILE).is_file() and (pictures / LINES_FILE).is_file()
    if is_data and out.resolve() != pictures.resolve():
        raise DataError(
            f"{pictures} is a data folder, which gets its depth in place: leave --out out, or copy the folder first."
        )
    _check_place(out, is_data=is_data)
    _check_record(out, record)
    listed, passed_over = (_data_jobs(pictures), ()) if is_data else _picture_jobs(pictures, out)
    _listed(out)
    if not listed:
        raise DataError(f"There is no picture in {pictures}: a name ends with {', '.join(sorted(PICTURES))}.")
    unlisted = {str(job.picture): why for job in listed if (why := _why_not_listed(job))}
    jobs = [job for job in listed if str(job.picture) not in unlisted]
    own, found = shard.of(jobs), Findings()
    done = kept = sum(job.done for job in own)
    with disk_errors(out, DataError), ExitStack() as claimed:
        with one_at_a_time(out):
            _check_record(out, record)
            claimed.enter_context(claim(shard, out))
            write_json(out / RECORD_FILE, record)
        began = time.perf_counter()
        log = log_of(shard, out)
        for more in chain([0], write_depth(own, teacher, found, log, batch_size=batch_size, workers=workers)):
            done += more
            if progress is not None:
                progress(done + len(found.broken) + len(unlisted), len(own) + len(unlisted))
        seconds = time.perf_counter() - began
        with one_at_a_time(out):
            reasons = finish(shard, out, found.broken)
            whole = [job for job in jobs if job.image not in reasons]
            broken = unlisted | {str(job.picture): reasons[job.image] for job in jobs if job.image in reasons}
            waits_for = _waits_for(jobs, whole, shard)
            if not waits_for:
                _complete(pictures, out, teacher, whole, broken, is_data=is_data)
                forget(out)
    return TargetsReport(
        folder=out,
        made=done - kept,
        kept=kept,
        broken=broken,
        flat=tuple(found.flat),
        passed_over=passed_over,
        waits_for=waits_for,
        computing=found.computing_s / seconds if done > kept else None,
    )


def _waits_for(jobs: Sequence[Job], whole: Sequence[Job], shard: Shard) -> tuple[Shard, ...]:
    """The other shards of which pictures have no depth yet."""
    missing = {job.image for job in whole if not job.done} if shard.count > 1 else set()
    shards = (Shard(number, shard.count) for number in range(1, shard.count + 1))
    return tuple(other for other in shards if any(job.image in missing for job in other.of(jobs)))


def _complete(
    pictures: Path,
    out: Path,
    teacher: Teacher,
    jobs: Sequence[Job],
    broken: Mapping[str, str],
    *,
    is_data: bool,
) -> None:
    """Make a data folder of depth that is all there."""
    if not jobs:
        raise DataError(f"No picture in {pictures} can be read; of the first: {next(iter(broken.values()))}")
    info = info_of(teacher.spec)
    if is_data:
        there = parse_info(out)
        info = attrs.evolve(info, maps=there.maps, roots=there.roots)
    write_json(out / INFO_FILE, info.to_json())
    rewrite_log(out / LINES_FILE, _with_depth(_listed(out), {job.image: job for job in jobs}))


def _check_place(out: Path, *, is_data: bool) -> None:
    """Refuse a folder that holds something else."""
    if (out / RECORD_FILE).is_file() or is_begun(out):
        return
    if is_data and parse_info(out).depth_unit is not None:
        raise DataError(
            f"{out} has depth of its own already: take it out of {INFO_FILE} and {LINES_FILE} first, or leave it."
        )
    if not is_data and not is_free(out):
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


def _picture_jobs(pictures: Path, out: Path) -> tuple[list[Job], tuple[str, ...]]:
    """The pictures of a folder in the order of their names, and the names of what is none."""
    jobs, passed_over = [], []
    made = os.path.realpath(out)
    for file in sorted(pictures.rglob("*")):
        name = file.relative_to(pictures).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        inner = Path(os.path.realpath(file)).is_relative_to(made)
        if (file.is_dir() and not file.is_symlink()) or hidden or inner:
            continue
        if file.suffix.lower() in PICTURES and not file.is_dir():
            jobs.append(Job(picture=file, folder=out, image=f"images/{name}"))
        else:
            passed_over.append(name)
    return jobs, tuple(passed_over)


def _data_jobs(folder: Path) -> list[Job]:
    """The pictures of a data folder, each once."""
    jobs: dict[str, Job] = {}
    taken: dict[str, str] = {}
    files = Files(folder, parse_info(folder).roots)
    for parsed in parse_lines(folder):
        if isinstance(parsed, Problem):
            raise DataError(f"{folder}/{parsed}")
        if parsed.image is None:
            continue
        picture = files.where(parsed.image)
        job = Job(picture=picture, folder=folder, image=parsed.image, listed=True)
        if taken.setdefault(job.depth, job.image) != job.image:
            raise DataError(
                f"{folder} has the pictures {taken[job.depth]} and {job.image}, whose depth would both be "
                f"{job.depth}: rename one."
            )
        jobs[job.image] = job
    return list(jobs.values())


def _why_not_listed(job: Job) -> str | None:
    """Why a data folder could not name a picture or its depth, or its reader would not follow them, if so."""
    shown = os.fsencode(job.picture).decode("utf-8", errors="replace")
    for path in (job.image, job.depth):
        if why := why_not_inside(path):
            return f"{shown} cannot be listed in a data folder, as {quoted(path)} {why}: rename it."
        try:
            resolved_inside(job.folder, path, DataError)
        except DataError as error:
            return str(error)
    return None


def _listed(out: Path) -> list[dict[str, Any]]:
    """The lines that a data folder has, all of the format."""
    if not (out / LINES_FILE).is_file():
        return []
    for parsed in parse_lines(out):
        if isinstance(parsed, Problem):
            raise DataError(f"{out}/{parsed} `perceptio data check {out}` lists all problems.")
    return [parse_json(line.text) for line in read_lines(out / LINES_FILE)]


def _with_depth(listed: list[dict[str, Any]], made: Mapping[str, Job]) -> list[dict[str, Any]]:
    """The lines that are there, each with its depth, and one for each picture that has none."""
    images = {line.get("image") for line in listed}
    lines = listed + [
        {"id": image.removeprefix("images/"), "image": image, "turns": []}
        for image in made
        if image not in images
    ]
    for line in lines:
        if line.get("image") in made:
            line["depth"] = made[line["image"]].depth
    return lines
