"""Everything that is wrong in a data folder, file by file."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from perceptio.data.folder.files import Files
from perceptio.data.folder.loading import LoadedFiles, load_files, map_problems
from perceptio.data.folder.places import open_place
from perceptio.data.folder.records import LINES_FILE, Problem, SampleRecord, parse_lines
from perceptio.data.lengths import ConversationLengths
from perceptio.recipe import Recipe


@attrs.frozen(kw_only=True)
class Report:
    """What was looked at, and what is wrong in it; whole where `problems` is empty."""

    samples: int
    turns: int
    problems: tuple[Problem, ...]


def check_folder(
    path: Path | str, progress: Callable[[int], None] | None = None, *, recipe: Recipe | None = None
) -> Report:
    """Read every line and every file of a data folder.

    Args:
        path: The folder.
        progress: Called with the number of samples looked at so far.
        recipe: Samples of which a conversation can become longer than its language model serves are problems, too.

    Raises:
        DataError: There is no such folder, or `dataset.json` or `samples.jsonl` is missing or cannot be read, so
            that nothing in it can be understood.
    """
    place = open_place(path)
    root, info, held = place.root, place.info, place.files
    lengths = None if recipe is None else ConversationLengths(recipe)
    problems: list[Problem] = []
    samples = turns = broken = 0
    named: set[str] = set()
    line = None
    for parsed in parse_lines(root):
        samples += parsed.line != line  # A line may have several problems.
        line = parsed.line
        if isinstance(parsed, Problem):
            broken += 1
            problems.append(parsed)
        else:
            turns += len(parsed.turns)
            named.update(parsed.files)
            files = load_files(held, info, parsed, problems)
            problems += map_problems(held, parsed, files.maps)
            if lengths is not None:
                problems += _too_long(lengths, parsed, files)
        if progress is not None:
            progress(samples)
    if not samples:
        problems.append(Problem(file=LINES_FILE, message="lists no sample."))
    if not broken and isinstance(held, Files):  # A broken line may have named it.
        problems += [
            Problem(file=file, message="is named by no sample: list it, or remove it.")
            for file in _strays(root, {held.where(name) for name in named})
        ]
    return Report(samples=samples, turns=turns, problems=tuple(problems))


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
    """Files of the folder that nothing refers to: often a sample that was meant to be there."""
    resolved = set(map(os.path.realpath, named))
    for pattern in ("images/*", "depth/*", "masks/*", "maps/**/*"):
        for file in sorted(root.glob(pattern)):
            if file.is_file() and not file.name.startswith(".") and os.path.realpath(file) not in resolved:
                yield str(file.relative_to(root))
