"""A published data set becomes a data folder: sample by sample, in little memory, going on where it was stopped.

No picture is decoded or encoded. Pictures, depth, masks and maps stay where they are, and the folder names them by
roots; or they get hard links in it, which take no room and hold what they are links to. Only depth that no published
file says as a data folder does is written anew.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import length_hint
from pathlib import Path
from typing import Any

import attrs

from perceptio.data.folder.dataset_info import DatasetInfo
from perceptio.data.folder.files import Files, split_root, why_no_file
from perceptio.data.folder.records import LINES_FILE, SampleRecord
from perceptio.data.folder.stream_writer import FolderWriter, has_begun
from perceptio.data.sources.depth_beside import DepthBeside
from perceptio.data.sources.depth_files import write_depth
from perceptio.errors import DataError, InterfaceError, quoted
from perceptio.interfaces import DepthMap, LeftOut, SourceConfig, SourceInfo, SourceSample
from perceptio.ops.files import disk_errors, expanded
from perceptio.ops.foreign import naming
from perceptio.ops.json_files import parse_json, read_json, read_lines, write_json
from perceptio.registry import Registry
from perceptio.serialize import to_json

IMPORT_FILE = "import.json"
"""What a folder was imported from, and how; and, when it is finished, what was taken and what left out."""
EXAMPLES = 5
"""So many of what is left out for one reason are named."""

PLACES = ("path", "link")
"""Whether files stay where they are, or get hard links in the folder."""


@attrs.define
class Omission:
    """How often something was left out for one reason, and the first of it."""

    count: int = 0
    examples: list[str] = attrs.Factory(list)


@attrs.frozen(kw_only=True)
class ImportReport:
    """What an import has taken and left out.

    Attributes:
        folder: The data folder.
        samples: How many samples it has.
        turns: How many turns, by task.
        left_out: What was left out, by reason.
        notes: Of how many samples something is otherwise than it was published, by what it is.
        kept: How many samples were there from an import that was stopped.
    """

    folder: Path
    samples: int
    turns: Mapping[str, int]
    left_out: Mapping[str, Omission]
    notes: Mapping[str, int]
    kept: int


def import_source(
    source: SourceConfig,
    out: Path | str,
    *,
    pictures: str = "path",
    depth: Path | str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    registry: Registry | None = None,
) -> ImportReport:
    """Write the samples of a source as a data folder.

    Called again after it was stopped, with the same settings, it goes on from there; with others it begins anew as
    long as no sample was written.

    Args:
        source: What is imported.
        out: The data folder, which must not be there, or be an import that was stopped.
        pictures: `"path"`: files stay where they are; `"link"`: they get hard links in the folder.
        depth: A data folder with depth of the same pictures, whose maps the samples name.
        progress: Called with how many samples are dealt with, and of how many, if that is known.
        registry: Where the source is registered; None: all that `Registry.discover` finds.

    Raises:
        DataError: A published file is missing or broken; the folder holds something else, was begun otherwise, or
            cannot be written; or nothing at all is left of the source.
        InterfaceError: The source does not keep its promise.
    """
    out = expanded(out)
    if pictures not in PLACES:
        raise DataError(f"pictures is {quoted(pictures)}; it must be {' or '.join(PLACES)}.")
    stated = source.info()
    beside = None if depth is None else DepthBeside(expanded(depth))
    placed = _Placed(out, _info(stated, beside), beside, link=pictures == "link")
    made_by = {
        "source": to_json(source, registry),
        "pictures": pictures,
        "depth": None if depth is None else os.path.realpath(expanded(depth)),
    }
    counts = _Counts()
    if has_begun(out):
        _check_settings(out / IMPORT_FILE, made_by)
    with FolderWriter(out, placed.written_info) as writer, disk_errors(out, DataError):
        kept = writer.written
        if not kept:
            write_json(out / IMPORT_FILE, made_by)
        found = source.samples()
        total = length_hint(found, 0) or None
        there = _lines_there(out, kept)
        for sample in counts.taken(found):
            record = placed.record(sample, counts.samples)
            if beside is not None and record.image is not None and record.depth is None:
                counts.notes[f"the picture has no depth in {beside.folder}"] += 1
            if counts.samples <= kept:
                _check_same(next(there), record, out)
            else:
                with naming(out / LINES_FILE):
                    writer.add(record)
            if progress is not None:
                progress(counts.samples, total)
        if counts.samples < kept:
            raise DataError(
                f"{out} was begun from other files: it has {kept:,} samples, and the source gives "
                f"{counts.samples:,} now. Remove the folder, and import it again."
            )
        if not counts.samples:
            raise DataError(f"Nothing of {source.folder} is left to be imported: {counts.reasons()}.")
        write_json(out / IMPORT_FILE, {**made_by, **counts.to_json()})
    return ImportReport(
        folder=out,
        samples=counts.samples,
        turns=dict(counts.turns),
        left_out=counts.left_out,
        notes=dict(counts.notes),
        kept=kept,
    )


class _Counts:
    """What was taken, and what was left out for which reason."""

    def __init__(self) -> None:
        self.samples = 0
        self.turns: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.left_out: dict[str, Omission] = {}

    def taken(self, found: Iterable[SourceSample | LeftOut]) -> Iterator[SourceSample]:
        """The samples; what is left out is counted."""
        for one in found:
            if isinstance(one, SourceSample):
                self.samples += 1
                self.turns.update(turn.task for turn in one.turns)
                self.notes.update(one.notes)
                yield one
            elif isinstance(one, LeftOut):
                held = self.left_out.setdefault(one.why, Omission())
                held.count += 1
                if len(held.examples) < EXAMPLES:
                    held.examples.append(one.what)
            else:
                raise InterfaceError(
                    f"A source gave {quoted(one)}; its samples must be SourceSample or LeftOut."
                )

    def reasons(self) -> str:
        """Why what was left out is left out, in one line."""
        return (
            "; ".join(f"{why} ({held.count:,} times)" for why, held in self.left_out.items()) or "it is empty"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "turns": dict(self.turns),
            "left_out": {why: attrs.asdict(held) for why, held in self.left_out.items()},
            "notes": dict(self.notes),
        }


def _info(stated: SourceInfo, beside: DepthBeside | None) -> DatasetInfo:
    """What the numbers of all that samples name mean, and where it lies."""
    unit, scale, roots = stated.depth_unit, stated.depth_scale, dict(stated.roots)
    if beside is not None:
        if unit is not None:
            raise DataError("The source has depth of its own: leave --depth out.")
        unit, scale = beside.info.depth_unit, beside.info.depth_scale
        taken = sorted(set(roots) & set(beside.roots))
        if taken:
            raise DataError(
                f"The source has a root {quoted(taken[0])}, as has the depth of --depth: rename it."
            )
        roots |= beside.roots
    for name, place in roots.items():
        if not Path(place).is_dir():
            raise DataError(f"There is no folder {place}, which is to be the root {quoted(name)}.")
    return DatasetInfo(depth_unit=unit, depth_scale=scale, maps=stated.maps, roots=roots)


class _Placed:
    """Samples as records whose files are in their places.

    Args:
        out: The data folder.
        info: What the paths of samples begin with, and what numbers mean.
        beside: Depth of the same pictures.
        link: Whether files get hard links in the folder.
    """

    def __init__(self, out: Path, info: DatasetInfo, beside: DepthBeside | None, *, link: bool) -> None:
        self._out, self._info, self._beside, self._link = out, info, beside, link
        self._files = Files(out, info.roots)
        self.written_info = attrs.evolve(info, roots={}) if link else info
        self._linked: set[str] = set()

    def record(self, sample: SourceSample, number: int) -> SampleRecord:
        """The record of a sample, which is the `number`-th."""
        depth = sample.depth
        if isinstance(depth, DepthMap):
            depth = write_depth(depth, self._info.depth_scale, self._out, f"depth/{number:08d}")
        else:
            depth = self._placed(depth, "depth")
        if self._beside is not None and sample.image is not None:
            depth = self._placed(self._beside.depth_of(self._files.where(sample.image)), "depth")
        masks = sample.masks
        return SampleRecord(
            id=sample.id,
            image=self._placed(sample.image, "images"),
            depth=depth,
            masks=self._placed(masks, "masks") if isinstance(masks, str) else masks,
            maps={name: str(self._placed(path, f"maps/{name}")) for name, path in sample.maps.items()},
            turns=sample.turns,
            ordered=sample.ordered,
        )

    def _placed(self, path: str | None, folder: str) -> str | None:
        """The path of a file in the data folder; it is linked there, if files are."""
        if path is None:
            return None
        root, inside = split_root(path, self._info.roots)
        why = why_no_file(path, self._info.roots)
        if not self._link:
            if why is None:  # Otherwise it is refused where it is written.
                self._check_inside(path)
            return path
        if why is not None:
            raise DataError(f"The source names the file {quoted(path)}, which {why}.")
        several = len(self._info.roots) > 1
        name = f"{folder}/{root}/{inside}" if several and root is not None else f"{folder}/{inside}"
        if name not in self._linked:
            _link(self._files.where(path), self._out / name)
            self._linked.add(name)
        return name

    def _check_inside(self, path: str) -> None:
        """Refuse a file that a symbolic link leads to, out of its root, where no data folder is read."""
        try:
            self._files.found(path)
        except DataError:
            place, root = self._files.where(path), split_root(path, self._info.roots)[0]
            raise DataError(
                f"{place} is a link out of {self._files.roots[root] if root else self._out} to "
                f"{os.path.realpath(place)}, and a data folder follows none: import with --pictures link, which "
                "makes hard links to the files themselves."
            ) from None


def _link(file: Path, place: Path) -> None:
    """A hard link to a file, or to what a symbolic link leads to."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(os.path.realpath(file), place)
    except FileExistsError:
        if not os.path.samefile(file, place):
            raise DataError(f"{place} is there and is another file than {file}: remove it.") from None
    except OSError as refused:
        if refused.errno in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise DataError(
                f"{file} cannot have a hard link at {place} ({refused.strerror}): import with --pictures path, or to "
                "a folder on the same disk."
            ) from None
        if refused.errno == errno.ENOENT:
            raise DataError(f"{file} is missing, and a sample names it.") from None
        raise


def _check_settings(file: Path, made_by: Mapping[str, Any]) -> None:
    """Refuse to go on with the samples of an import with other settings."""
    there = read_json(file, remedy="remove the folder, and import it again")
    differing = [
        f"{name} (there {quoted(old)}, now {quoted(new)})"
        for name, old, new in _differences(there if isinstance(there, dict) else {}, made_by)
    ]
    if differing:
        raise DataError(
            f"{file.parent} has samples of an import with other settings: {'; '.join(differing)}. Set them as they "
            "were to go on with it; or remove the folder, or choose another --out, to begin anew."
        )


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What was chosen otherwise: settings of the source by their names, options of the command as it has them."""
    before, after = (
        {f"--{name}": one.get(name) for name in ("pictures", "depth")} | dict(one.get("source") or {})
        for one in (there, now)
    )
    for name, value in after.items():
        if before.get(name) != value:
            yield name, before.get(name), value


def _lines_there(out: Path, count: int) -> Iterator[Any]:
    """The lines that an import that was stopped has left, whole."""
    if count:
        yield from (parse_json(line.text) for line in read_lines(out / LINES_FILE))


def _check_same(there: Any, record: SampleRecord, out: Path) -> None:
    if there != record.to_json():
        raise DataError(
            f"{out} was begun from other files: its sample {quoted(there.get('id'))} is not what the source gives "
            f"now, {quoted(record.id)}. Remove the folder, and import it again."
        )
