"""Importing a published data set into a data folder: sample by sample, in little memory, and resumable.

No image is decoded or encoded. Images, depth, masks and maps stay where they are, and the folder refers to them
through roots; or the folder gets hard links to them, which need no space. Only depth whose published form a data
folder cannot describe is written anew.
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
from perceptio.ops.wording import number_of
from perceptio.registry import Registry
from perceptio.serialize import to_json

IMPORT_FILE = "import.json"
"""The source and settings of an import; when it is finished, also what was imported and what was left out."""
EXAMPLES = 5
"""Number of examples that are named for each reason to leave something out."""

PLACES = ("path", "link")
"""Whether files stay where they are, or get hard links in the folder."""


@attrs.define
class Omission:
    """How often something was left out for one reason, with the first examples."""

    count: int = 0
    examples: list[str] = attrs.Factory(list)


@attrs.frozen(kw_only=True)
class ImportReport:
    """What an import has taken and left out.

    Attributes:
        folder: The data folder.
        samples: Number of samples in it.
        turns: Number of turns, by task.
        left_out: What was left out, by reason.
        notes: Number of samples that differ from their published form, by kind of difference.
        kept: Number of samples that existed from an interrupted import.
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

    Called again with the same settings after an interruption, it continues. With other settings it starts anew, if
    no sample was written.

    Args:
        source: The source to import.
        out: The data folder, which must not exist, or be an interrupted import.
        pictures: `"path"`: files stay where they are; `"link"`: they get hard links in the folder.
        depth: A data folder with depth of the same images, whose maps the samples use.
        progress: Called with the number of samples done, and the total if it is known.
        registry: The registry of the source; None: `Registry.discover`.

    Raises:
        DataError: A published file is missing or broken; the folder holds something else, was started with other
            settings, or cannot be written; or nothing of the source can be imported.
        InterfaceError: The source violates its interface.
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
                f"{out} was begun from other files: it has {number_of(kept, 'sample')}, and the source gives "
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
    """Counts what was taken, and what was left out for which reason."""

    def __init__(self) -> None:
        self.samples = 0
        self.turns: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.left_out: dict[str, Omission] = {}

    def taken(self, found: Iterable[SourceSample | LeftOut]) -> Iterator[SourceSample]:
        """Yield the samples, and count what is left out."""
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
        """Return the reasons for leaving things out, in one line."""
        return (
            "; ".join(f"{why} ({number_of(held.count, 'time')})" for why, held in self.left_out.items())
            or "it is empty"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "turns": dict(self.turns),
            "left_out": {why: attrs.asdict(held) for why, held in self.left_out.items()},
            "notes": dict(self.notes),
        }


def _info(stated: SourceInfo, beside: DepthBeside | None) -> DatasetInfo:
    """Return the meaning of all values that samples refer to, and the location of their files."""
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
    """Makes records of samples, with their files in place.

    Args:
        out: The data folder.
        info: The roots that paths of samples begin with, and the meaning of values.
        beside: Depth of the same images.
        link: Whether to create hard links in the folder.
    """

    def __init__(self, out: Path, info: DatasetInfo, beside: DepthBeside | None, *, link: bool) -> None:
        self._out, self._info, self._beside, self._link = out, info, beside, link
        self._files = Files(out, info.roots)
        self.written_info = attrs.evolve(info, roots={}) if link else info
        self._linked: set[str] = set()

    def record(self, sample: SourceSample, number: int) -> SampleRecord:
        """Return the record of the `number`-th sample."""
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
        """Return the path of a file in the data folder, after linking it there if requested."""
        if path is None:
            return None
        root, inside = split_root(path, self._info.roots)
        why = why_no_file(path, self._info.roots)
        if not self._link:
            if why is None:  # Otherwise it is refused when it is written.
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
        """Refuse a file that a symbolic link takes out of its root, because a data folder could not read it."""
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
    """Create a hard link to a file, or to the target of a symbolic link."""
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
    """Refuse to continue an import with other settings."""
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
    """Yield settings that differ: those of the source by name, and options of the command as written there."""
    before, after = (
        {f"--{name}": one.get(name) for name in ("pictures", "depth")} | dict(one.get("source") or {})
        for one in (there, now)
    )
    for name, value in after.items():
        if before.get(name) != value:
            yield name, before.get(name), value


def _lines_there(out: Path, count: int) -> Iterator[Any]:
    """Yield the complete lines that an interrupted import has left."""
    if count:
        yield from (parse_json(line.text) for line in read_lines(out / LINES_FILE))


def _check_same(there: Any, record: SampleRecord, out: Path) -> None:
    if there != record.to_json():
        raise DataError(
            f"{out} was begun from other files: its sample {quoted(there.get('id'))} is not what the source gives "
            f"now, {quoted(record.id)}. Remove the folder, and import it again."
        )
