"""Checks a data folder for problems, file by file."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path

import attrs
import torch

from perceptio.data.folder.dataset_info import INFO_FILE
from perceptio.data.folder.files import Files, split_root
from perceptio.data.folder.loading import LoadedFiles, load_files, map_problems
from perceptio.data.folder.places import Place, open_place
from perceptio.data.folder.records import LINES_FILE, Problem, SampleRecord, parse_lines
from perceptio.data.lengths import ConversationLengths
from perceptio.data.tasks import not_loaded
from perceptio.recipe import Recipe

ALONE = 500
"""Up to this number of lines, one process is faster than starting others."""
_CHUNK = 32


@attrs.frozen(kw_only=True)
class Report:
    """The result of a check; the folder is valid if `problems` is empty.

    Attributes:
        samples: The number of samples.
        turns: The number of their turns.
        problems: What is wrong.
        unchecked: The number of turns by task, for tasks of plugins that are not loaded: their rules are not known.
    """

    samples: int
    turns: int
    problems: tuple[Problem, ...]
    unchecked: Mapping[str, int]


def check_folder(
    path: Path | str,
    progress: Callable[[int], None] | None = None,
    *,
    recipe: Recipe | None = None,
    jobs: int = 1,
) -> Report:
    """Read every line and every file of a data folder.

    Args:
        path: The folder, or the address of a packed one.
        progress: Called with the number of samples checked so far.
        recipe: If given, also report samples with a conversation that may exceed its language model's limit.
        jobs: Number of processes that read files, for folders of more than `ALONE` lines; the report does not depend
            on it.

    Raises:
        DataError: There is no such folder, or `dataset.json` or `samples.jsonl` is missing or cannot be read at all.
    """
    place = open_place(path)
    gone = _missing_roots(place)
    problems = [
        Problem(
            file=INFO_FILE, message=f"the root {name!r} is {folder}, which is no folder: say where it is now."
        )
        for name, folder in gone.items()
    ]
    samples = turns = broken = 0
    named: set[str] = set()
    tasks: Counter[str] = Counter()
    line = None
    for parsed, found in _looked_at(parse_lines(place.root), place, recipe, jobs):
        samples += parsed.line != line  # A line may have several problems.
        line = parsed.line
        problems += [
            one for one in found if split_root(one.file, gone)[0] is None
        ]  # All files of a missing root.
        if isinstance(parsed, Problem):
            broken += 1
        else:
            turns += len(parsed.turns)
            tasks.update(turn.task for turn in parsed.turns)
            named.update(parsed.files)
        if progress is not None:
            progress(samples)
    if not samples:
        problems.append(Problem(file=LINES_FILE, message="lists no sample."))
    if not broken and isinstance(place.files, Files):  # A broken line could have named the file.
        problems += [
            Problem(file=file, message="is named by no sample: list it, or remove it.")
            for file in _strays(place.root, {place.files.where(name) for name in named})
        ]
    unchecked = {name: tasks[name] for name in not_loaded(sorted(tasks))}
    return Report(samples=samples, turns=turns, problems=tuple(problems), unchecked=unchecked)


def _missing_roots(place: Place) -> dict[str, Path]:
    """Return the roots of a folder that do not exist, for example because images were moved after an import."""
    roots = place.files.roots if isinstance(place.files, Files) else {}
    return {name: folder for name, folder in roots.items() if not folder.is_dir()}


Looked = tuple[SampleRecord | Problem, list[Problem]]
"""A line, and the problems in it or its files."""


class _Reader:
    """Reads the files of samples.

    Args:
        place: The folder.
        recipe: See `check_folder`.
    """

    def __init__(self, place: Place, recipe: Recipe | None) -> None:
        self.place, self.lengths = place, None if recipe is None else ConversationLengths(recipe)

    def __call__(self, parsed: SampleRecord | Problem) -> Looked:
        if isinstance(parsed, Problem):
            return parsed, [parsed]
        problems: list[Problem] = []
        files = load_files(self.place.files, self.place.info, parsed, problems)
        problems += map_problems(self.place.files, parsed, files.maps)
        if self.lengths is not None:
            problems += _too_long(self.lengths, parsed, files)
        return parsed, problems


def _looked_at(
    lines: Iterator[SampleRecord | Problem], place: Place, recipe: Recipe | None, jobs: int
) -> Iterator[Looked]:
    """Yield every line with its problems, in order."""
    first = list(islice(lines, ALONE + 1))
    if jobs == 1 or len(first) <= ALONE:
        yield from map(_Reader(place, recipe), chain(first, lines))
        return
    lines = chain(first, lines)
    chunks = iter(lambda: list(islice(lines, _CHUNK)), [])
    # Not forked: after a fork, torch's threads of this process would be missing in the child.
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_begin, initargs=(place, recipe)
    ) as pool:
        waiting: deque[tuple[list[SampleRecord | Problem], Future[list[list[Problem]]]]] = deque()
        try:
            while True:
                while len(waiting) < 2 * jobs and (chunk := next(chunks, None)) is not None:
                    waiting.append((chunk, pool.submit(_read_chunk, chunk)))
                if not waiting:
                    return
                chunk, read = waiting.popleft()
                yield from zip(chunk, read.result(), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


_reader: _Reader | None = None
"""The reader of a process of `_looked_at`."""


def _begin(place: Place, recipe: Recipe | None) -> None:
    global _reader
    torch.set_num_threads(1)
    _reader = _Reader(place, recipe)


def _read_chunk(chunk: Sequence[SampleRecord | Problem]) -> list[list[Problem]]:
    assert _reader is not None
    return [_reader(parsed)[1] for parsed in chunk]


def _too_long(lengths: ConversationLengths, record: SampleRecord, files: LoadedFiles) -> Iterator[Problem]:
    if lengths.limit is None or (record.image is not None and files.image_3HW is None):
        return
    length = lengths.longest(record, files.sample((), record.id))
    if length > lengths.limit:
        message = (
            f"a conversation about it can have {length} slots, and the recipe's language model serves at most "
            f'{lengths.limit}: shorten it, or set data.too_long to "skip".'
        )
        yield Problem(file=LINES_FILE, line=record.line, message=message)


def _strays(root: Path, named: set[Path]) -> Iterator[str]:
    """Yield files of the folder that nothing refers to: often a sample that should have been listed."""
    resolved = set(map(os.path.realpath, named))
    for pattern in ("images/*", "depth/*", "masks/*", "maps/**/*"):
        for file in sorted(root.glob(pattern)):
            if file.is_file() and not file.name.startswith(".") and os.path.realpath(file) not in resolved:
                yield str(file.relative_to(root))
