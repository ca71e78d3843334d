"""Paths inside a file, which must name something in that file's folder."""

from pathlib import Path
from typing import Any

from perceptio.errors import PerceptioError
from perceptio.ops.hidden_names import LONGEST_NAME

LONGEST_PATH = 4000
"""Maximum length of a path within a folder in bytes; common systems allow 4095 in all."""


def why_not_inside(path: Any) -> str | None:
    """Return why a value is not a valid path within a folder, on any system; None if it is."""
    if not isinstance(path, str) or not path:
        return "is not a path"
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\\" in path:
        return "must be a path inside the folder, with /"
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "has characters that are not UTF-8"
    if max(sizes) > LONGEST_NAME or sum(sizes) + len(parts) > LONGEST_PATH:
        return f"has a name longer than {LONGEST_NAME} bytes, or is longer than {LONGEST_PATH}"
    return "has a character that no name can have" if "\0" in path or "\n" in path else None


def resolved_inside(folder: Path, path: str, error: type[PerceptioError]) -> Path:
    """Return the path in the folder; symbolic links are followed if their target is inside it.

    Raises:
        PerceptioError: Of the given class: a link leads out of the folder, or forms a cycle.
    """
    place = folder / path
    try:
        real = place.resolve(strict=False)
        inside = real.is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # RuntimeError: a cycle of links, before Python 3.13.
        raise error(f"{place} is a symbolic link that leads nowhere: write the file itself.") from None
    if not inside:
        raise error(
            f"{place} leads out of {folder} to {real}: put the file itself there, or a hard link to it."
        )
    return place
