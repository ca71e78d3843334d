"""The names of classes by number, from the lists that data sets come with.

It reads ADE20K's `objectInfo150.txt` and `.csv`, and any list of lines with a number and a name, separated by a tab,
a comma, a colon or blanks. If a class has several names, separated by commas or semicolons, the first is used.
"""

import re
from pathlib import Path

from perceptio.errors import DataError
from perceptio.ops.foreign import parsing

MAX_BYTES = 2**20
_LINE = re.compile(r"(\d+)(?:\s*[\t,:]\s*|\s+)(.+)")


def class_names(path: Path) -> dict[int, str]:
    """Return the names by number, without 0, which means no class.

    Raises:
        DataError: The file is missing, larger than `MAX_BYTES`, not UTF-8 or not such a list, or a number has two
            names.
    """
    with parsing(DataError, f"{path} cannot be read ({{reason}}): check the path and the disk."):
        if not path.is_file():
            raise DataError(f"There is no list of class names {path}: name the file with --set names=FILE.")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise DataError(f"{path} has {size:,} bytes, and a list of names up to {MAX_BYTES:,}.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    header = next((line for line in lines if line.strip()), "")
    table = re.split(r"[\t,]", header.strip().lower())
    is_table = {"idx", "name"} <= set(table)
    names: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (is_table and line is header):
            continue
        said = (
            _of_table(line, table, "\t" if "\t" in header else ",")
            if is_table
            else _LINE.fullmatch(line.strip())
        )
        if said is None:
            raise DataError(f"{path} line {number} is {line.strip()[:80]!r}, and not a number and a name.")
        id, name = int(said[1]), re.split("[,;]", said[2])[0].strip()
        if not name or names.setdefault(id, name) != name:
            why = "has no name" if not name else f"is named {names[id]!r} and {name!r}"
            raise DataError(f"{path} line {number}: class {id} {why}.")
    names.pop(0, None)
    if not names:
        raise DataError(f"{path} names no class: name another file with --set names=FILE.")
    return names


def _of_table(line: str, table: list[str], separator: str) -> re.Match[str] | None:
    """Return the number and the name in a row of a table, as matched by `_LINE`; the name is the last column."""
    cells = line.strip().split(separator, len(table) - 1)
    if len(cells) < len(table):
        return None
    return _LINE.fullmatch(f"{cells[table.index('idx')].strip()}\t{cells[table.index('name')]}")
