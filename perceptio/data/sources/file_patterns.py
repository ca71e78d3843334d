"""Find files that belong together by patterns of their paths.

In a pattern, `{name}` matches any text, which may be empty or include folders. It matches the same text in all
patterns: `"{key}.color.png"` and `"{key}.depth.png"` pair `chess/seq-01/frame-000000.color.png` with
`chess/seq-01/frame-000000.depth.png`. `*` matches any text without `/`, and does not affect which files belong
together.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs

from perceptio.errors import DataError, RecipeError

Key = tuple[str, ...]
"""The texts that the names in a pattern match, in the order of the names."""
Unpaired = Literal["refuse", "leave_out"]
_SHOWN = 3
_FIELD = re.compile(r"{(\w+)}|(\*)")


@attrs.frozen(kw_only=True)
class Pattern:
    """A pattern of paths in a folder.

    Attributes:
        folder: The folder that the paths are relative to.
        text: The pattern.
    """

    folder: Path
    text: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names in braces, sorted."""
        return tuple(sorted({name for name, _ in _FIELD.findall(self.text) if name}))

    def files(self) -> dict[Key, str]:
        """Return the matching paths by the texts of the names, sorted by path, without hidden files and folders.

        Raises:
            DataError: The folder does not exist, or two paths differ only in the text that `*` matches.
        """
        if not self.folder.is_dir():
            raise DataError(f"There is no folder {self.folder}: check the path.")
        expression, names, found = self._expression(), self.names, dict[Key, str]()
        for path in sorted(self._paths()):
            if matched := expression.fullmatch(path):
                key = tuple(matched[name] for name in names)
                if found.setdefault(key, path) != path:
                    raise DataError(
                        f"{self.folder}: {found[key]} and {path} both match {self.text!r} with the same "
                        f"{_named(names, key)}: write a {{name}} where they differ."
                    )
        return found

    def _expression(self) -> re.Pattern[str]:
        written, end, seen = "", 0, set[str]()
        for field in _FIELD.finditer(self.text):
            written += re.escape(self.text[end : field.start()])
            name = field[1]
            written += "[^/]*" if name is None else f"(?P={name})" if name in seen else f"(?P<{name}>.*?)"
            seen |= {name} if name else set()
            end = field.end()
        return re.compile(written + re.escape(self.text[end:]))

    def _paths(self) -> Iterator[str]:
        """Yield the paths of all files below the fixed first folders of the pattern."""
        fixed = self.text[: found.start()] if (found := _FIELD.search(self.text)) else self.text
        start = self.folder / fixed.rpartition("/")[0]
        for folder, folders, files in os.walk(start, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = os.path.relpath(folder, self.folder)
            for name in files:
                if not name.startswith("."):
                    yield name if inside == "." else f"{inside}/{name}"


@attrs.frozen(kw_only=True)
class Paired:
    """Files found by several patterns.

    Attributes:
        files: The path of each kind, for each set of files that belong together; sorted by the first kind's path.
        alone: Kind and path of each file that lacks another.
    """

    files: Sequence[Mapping[str, str]]
    alone: Sequence[tuple[str, str]]


def paired(patterns: Mapping[str, Pattern], unpaired: Unpaired = "refuse") -> Paired:
    """Return the files that belong together.

    Args:
        patterns: The pattern of each kind of file. The kinds are names of settings, such as `images` and `depth`.
        unpaired: Whether to refuse or to leave out files that lack another.

    Raises:
        RecipeError: The patterns do not have the same names, or have none.
        DataError: A folder is missing, a pattern matches no file, two files have the same key, no files belong
            together, or files lack another and `unpaired` is `refuse`.
    """
    names = {what: pattern.names for what, pattern in patterns.items()}
    if not all(names.values()) or len(set(names.values())) > 1:
        said = ", ".join(f"{what}={pattern.text!r}" for what, pattern in patterns.items())
        raise RecipeError(
            f"The patterns {said} must have the same names in braces, such as {{key}}, by which files belong "
            "together."
        )
    found = {what: pattern.files() for what, pattern in patterns.items()}
    for what, files in found.items():
        if not files:
            raise DataError(
                f"{patterns[what].folder} has no file like {patterns[what].text!r}: check the folder, or set {what} "
                "to the pattern of yours."
            )
    common = set.intersection(*(set(files) for files in found.values()))
    alone = [
        (what, path) for what, files in found.items() for key, path in files.items() if key not in common
    ]
    if not common or (alone and unpaired == "refuse"):
        raise DataError(_unpaired_message(patterns, found, common, alone))
    first = next(iter(found.values()))
    return Paired(
        files=[{what: files[key] for what, files in found.items()} for key in first if key in common],
        alone=alone,
    )


def _unpaired_message(
    patterns: Mapping[str, Pattern],
    found: Mapping[str, Mapping[Key, str]],
    common: set[Key],
    alone: Sequence[tuple[str, str]],
) -> str:
    counts = ", ".join(f"{len(files):,} of {what} ({patterns[what].text!r})" for what, files in found.items())
    lacking = []
    for what in found:
        paths = [path for kind, path in alone if kind == what]
        if paths:
            more = ", …" if len(paths) > _SHOWN else ""
            lacking.append(f"{len(paths):,} of {what}, {', '.join(paths[:_SHOWN])}{more}")
    names = ", ".join(f"{{{name}}}" for name in next(iter(patterns.values())).names)
    remedy = "set unpaired=leave_out, or correct the patterns" if common else "correct the patterns"
    return (
        f"There are {counts}, of which {len(common):,} belong together by {names}. Without another are "
        f"{'; and '.join(lacking)}: {remedy}."
    )


def _named(names: Sequence[str], key: Key) -> str:
    return ", ".join(f"{{{name}}} = {text!r}" for name, text in zip(names, key, strict=True))
