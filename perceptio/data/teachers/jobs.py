"""The images of a pass, their locations, and their names in the data folder."""

import filecmp
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs

from perceptio.data.folder.dataset_info import INFO_FILE, parse_info
from perceptio.data.folder.files import Files, split_root
from perceptio.data.folder.records import LINES_FILE, Problem, SampleRecord, parse_lines
from perceptio.errors import DataError, quoted
from perceptio.ops.paths import resolved_inside, why_not_inside

Placing = Literal["copy", "path"]
"""Whether images are copied into the data folder, or stay where they are and are named by a root of it."""
PICTURES = frozenset(
    f".{ending}"
    for ending in "avif bmp gif heic jfif jp2 jpeg jpg mpo pgm png ppm tif tiff webp".split()  # noqa: SIM905
)
"""Suffixes of image files: such a file is either read or reported as broken."""
ROOT = "pictures"
"""The root of images that stay where they are."""


@attrs.frozen(kw_only=True)
class Job:
    """An image, and the locations of the image and its depth in the data folder.

    Attributes:
        picture: The image file to read.
        folder: The data folder.
        image: The image's name in the data folder.
        name: The base name of its sample and its depth.
        copied: Whether it is copied into the data folder.
    """

    picture: Path
    folder: Path
    image: str
    name: str
    copied: bool = False

    @property
    def copy(self) -> Path:
        """The path of its copy, if it is copied."""
        return self.folder / self.image

    @property
    def depth(self) -> str:
        """The name of its depth, which includes the image's suffix, because `a.jpg` and `a.png` are two images."""
        return f"depth/{self.name}.png"

    @property
    def done(self) -> bool:
        """Whether its depth exists, and its copy, if any, is up to date."""
        if not (self.folder / self.depth).is_file():
            return False
        return not self.copied or (self.copy.is_file() and filecmp.cmp(self.picture, self.copy))


@attrs.frozen(kw_only=True)
class Jobs:
    """The work of a pass.

    Attributes:
        jobs: The images that can be processed, each once.
        unlisted: Why other images cannot be named in a data folder, by their paths.
        passed_over: Files that are not images according to their names.
        roots: The roots of the data folder that names all of them.
    """

    jobs: Sequence[Job]
    unlisted: Mapping[str, str]
    passed_over: tuple[str, ...]
    roots: Mapping[str, str]


def is_data_folder(folder: Path) -> bool:
    """Return whether a folder of images is a data folder."""
    return (folder / INFO_FILE).is_file() and (folder / LINES_FILE).is_file()


def jobs_of(pictures: Path, out: Path, placing: Placing) -> Jobs:
    """Return the images of a folder, or of a data folder's samples, with their names for a data folder.

    Args:
        pictures: The folder.
        out: The data folder that receives the depth.
        placing: For a folder that is not a data folder; images of a data folder stay where they are.

    Raises:
        DataError: A line of either data folder is invalid, there is no image, or two images would share their depth.
    """
    roots = dict(parse_info(out).roots) if (out / INFO_FILE).is_file() else {}
    passed_over: tuple[str, ...] = ()
    if is_data_folder(pictures):
        found = _of_data(pictures, out, roots)
    else:
        found, passed_over = _of_pictures(pictures, out, roots, placing)
    if not found:
        raise DataError(f"There is no picture in {pictures}: a name ends with {', '.join(sorted(PICTURES))}.")
    files = Files(out, roots)
    unlisted = {str(job.picture): why for job in found if (why := _why_not_listed(job, files))}
    jobs = [job for job in found if str(job.picture) not in unlisted]
    _check_names(jobs, out, in_place=os.path.realpath(pictures) == os.path.realpath(out))
    return Jobs(jobs=jobs, unlisted=unlisted, passed_over=passed_over, roots=roots)


def records_of(folder: Path) -> Iterator[SampleRecord]:
    """Yield the samples of a data folder.

    Raises:
        DataError: A line is invalid.
    """
    for parsed in parse_lines(folder):
        if isinstance(parsed, Problem):
            raise DataError(f"{folder}/{parsed} `perceptio data check {folder}` lists all problems.")
        yield parsed


def _of_pictures(
    pictures: Path, out: Path, roots: dict[str, str], placing: Placing
) -> tuple[list[Job], tuple[str, ...]]:
    """Return the images of a folder in the order of their names, and the names of other files."""
    jobs, passed_over = [], []
    made = os.path.realpath(out)
    root = "" if placing == "copy" else _root_of(pictures, ROOT, roots, out)
    for file in sorted(pictures.rglob("*")):
        name = file.relative_to(pictures).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        inner = Path(os.path.realpath(file)).is_relative_to(made)
        if (file.is_dir() and not file.is_symlink()) or hidden or inner:
            continue
        if file.suffix.lower() in PICTURES and not file.is_dir():
            image = f"images/{name}" if placing == "copy" else f"{root}:{name}"
            jobs.append(Job(picture=file, folder=out, image=image, name=name, copied=placing == "copy"))
        else:
            passed_over.append(name)
    return jobs, tuple(passed_over)


def _of_data(folder: Path, out: Path, roots: dict[str, str]) -> list[Job]:
    """Return the images of a data folder's samples, each once; another data folder names them by roots."""
    files = Files(folder, parse_info(folder).roots)
    in_place = os.path.realpath(folder) == os.path.realpath(out)
    names: dict[str | None, str] = {}
    jobs: dict[str, Job] = {}
    for record in records_of(folder):
        image = record.image
        if image is None:
            continue
        root, inside = split_root(image, files.roots)
        if not in_place:
            if root not in names:
                place = folder if root is None else files.roots[root]
                names[root] = _root_of(place, root or ROOT, roots, out)
            image = f"{names[root]}:{inside}"
        name = inside.removeprefix("images/") if root is None else f"{names.get(root, root)}/{inside}"
        if image not in jobs:
            jobs[image] = Job(picture=files.where(record.image or ""), folder=out, image=image, name=name)
    return list(jobs.values())


def _check_names(jobs: Sequence[Job], out: Path, *, in_place: bool) -> None:
    """Refuse images of the same name, of which one would overwrite the other's depth or share its sample's id."""
    depths: dict[str, str] = {}
    ids: dict[str, str | None] = {}
    if not in_place and (out / LINES_FILE).is_file():
        for record in records_of(out):
            ids[record.id] = record.image
    for job in jobs:
        other = depths.setdefault(job.depth, job.image)
        if not in_place and other == job.image:
            other = ids.setdefault(job.name, job.image) or "none"
        if other != job.image:
            raise DataError(
                f"{out} has the pictures {other} and {job.image}, whose depth would both be {job.depth}: rename one, "
                "or choose another --out."
            )


def _root_of(place: Path, wanted: str, roots: dict[str, str], out: Path) -> str:
    """Return the root of a data folder for a location; a new one gets the wanted name, or a numbered one."""
    path = os.path.realpath(place)
    for name, there in Files(out, roots).roots.items():
        if os.path.realpath(there) == path:
            return name
    free = (name for name in (wanted, *(f"{wanted}-{number}" for number in range(2, 2 + len(roots)))))
    name = next(name for name in free if name not in roots)
    roots[name] = path
    return name


def _why_not_listed(job: Job, files: Files) -> str | None:
    """Return why a data folder cannot name an image or its depth, or its reader would not follow them; else None."""
    shown = os.fsencode(job.picture).decode("utf-8", errors="replace")
    for path in (split_root(job.image, files.roots)[1], job.depth):
        if why := why_not_inside(path):
            return f"{shown} cannot be listed in a data folder, as {quoted(path)} {why}: rename it."
    try:
        files.found(job.image)
        resolved_inside(job.folder, job.depth, DataError)
    except DataError as error:
        return str(error)
    return None
