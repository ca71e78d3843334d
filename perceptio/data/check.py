"""Everything that is wrong in a data folder, file by file."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from perceptio.data.loading import load_files
from perceptio.data.records import LINES_FILE, Problem, parse_info, parse_lines
from perceptio.ops.files import expanded


@attrs.frozen(kw_only=True)
class Report:
    """What was looked at, and what is wrong in it; whole where `problems` is empty."""

    samples: int
    turns: int
    problems: tuple[Problem, ...]


def check_folder(path: Path | str, progress: Callable[[int], None] | None = None) -> Report:
    """Read every line and every file of a data folder.

    Args:
        path: The folder.
        progress: Called with the number of samples looked at so far.

    Raises:
        DataError: There is no such folder, or `dataset.json` or `samples.jsonl` is missing or cannot be read, so
            that nothing in it can be understood.
    """
    root = expanded(path)
    info = parse_info(root)
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
            named |= {file for file in (parsed.image, parsed.depth, parsed.masks) if isinstance(file, str)}
            load_files(root, info, parsed, problems)
        if progress is not None:
            progress(samples)
    if not samples:
        problems.append(Problem(file=LINES_FILE, message="lists no sample."))
    if not broken:  # Otherwise a line that could not be read may have named it.
        problems += [
            Problem(file=file, message="is named by no sample: list it, or remove it.")
            for file in _strays(root, named)
        ]
    return Report(samples=samples, turns=turns, problems=tuple(problems))


def _strays(root: Path, named: set[str]) -> Iterator[str]:
    """Files that nothing refers to: often a sample that was meant to be there."""
    resolved = {os.path.realpath(root / file) for file in named}
    for folder in ("images", "depth", "masks"):
        for file in sorted((root / folder).glob("*")):
            if file.is_file() and not file.name.startswith(".") and os.path.realpath(file) not in resolved:
                yield str(file.relative_to(root))
