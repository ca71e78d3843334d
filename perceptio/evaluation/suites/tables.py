"""Tables of published data sets: files of JSON lines, JSON lists and parquet, with their images."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perceptio.errors import DataError, InputError, quoted
from perceptio.ops.foreign import parsing
from perceptio.ops.held_files import AnyFile, HeldFile
from perceptio.ops.json_files import InvalidJSONError, parse_json, read_json, read_lines
from perceptio.ops.paths import resolved_inside, why_not_inside

if TYPE_CHECKING:
    from pyarrow import parquet

FETCH = "the file is cut short or damaged; fetch it again"
SUFFIXES = (".jsonl", ".json", ".parquet")


class Table(ABC):
    """The rows of a published file.

    Attributes:
        file: The file.
        rows: The content of each row, without images.
    """

    file: Path
    rows: Sequence[dict[str, Any]]

    @abstractmethod
    def picture(self, row: int, column: str) -> AnyFile:
        """Return the image file of a row; whether it can be read shows only when it is used.

        Raises:
            InputError: The row names no file, or one outside of the data.
        """


def open_table(file: Path, columns: Collection[str], pictures: str, root: Path | None = None) -> Table:
    """Open a published file.

    Args:
        file: The file: `.jsonl`, `.json` or `.parquet`.
        columns: The columns that every row must have.
        pictures: The prefix of the names of image columns. Parquet files store `{"bytes", "path"}` in them, as on the
            hub, and JSON files store paths.
        root: The folder that paths of images are relative to; None: the file's own folder.

    Raises:
        DataError: The file is missing or truncated, or a row lacks one of these columns.
        InputError: The file is parquet, and pyarrow is not installed.
    """
    table: Table
    if not file.is_file():
        raise DataError(f"{file} is not there: fetch it again.")
    if file.suffix == ".parquet":
        table = ParquetTable(file, pictures, root or file.parent)
    else:
        table = JSONTable(file, root or file.parent)
    if not table.rows:
        raise DataError(f"{file} has no row: {FETCH}.")
    for number, row in enumerate(table.rows, start=1):
        missing = [name for name in columns if name not in row]
        if missing:
            raise DataError(
                f"{file} row {number} has no {', '.join(missing)}; it has {', '.join(row) or 'nothing'}."
            )
    return table


class JSONTable(Table):
    """A file of JSON lines, or a JSON list of objects; images are separate files."""

    def __init__(self, file: Path, root: Path) -> None:
        self.file, self._root = file, root
        rows = _lines(file) if file.suffix == ".jsonl" else read_json(file, remedy=FETCH)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{file} is no list of objects: export the data set row by row.")
        self.rows = rows

    def picture(self, row: int, column: str) -> AnyFile:
        """See `Table.picture`."""
        held = self.rows[row].get(column)
        return _of_path(self._root, held.get("path") if isinstance(held, dict) else held)


class ParquetTable(Table):
    """A parquet file from the hub; it contains the images, which are read row group by row group on demand."""

    def __init__(self, file: Path, pictures: str, root: Path) -> None:
        self.file, self._root = file, root
        self._reader = _parquet(file)
        names = self._reader.schema_arrow.names
        wanted = [name for name in names if not name.startswith(pictures)]
        with parsing(DataError, f"{file} cannot be read ({{reason}}): {FETCH}."):
            self.rows = self._reader.read(columns=wanted).to_pylist()
        counts = [self._reader.metadata.row_group(n).num_rows for n in range(self._reader.num_row_groups)]
        self._starts = [sum(counts[:number]) for number in range(len(counts) + 1)]
        self._held: tuple[int, str, list[Any]] | None = None

    def picture(self, row: int, column: str) -> AnyFile:
        """See `Table.picture`."""
        if column not in self._reader.schema_arrow.names:
            raise InputError(f"{self.file} has no column {column!r}: fetch the published file.")
        group = next(n for n in range(len(self._starts) - 1) if row < self._starts[n + 1])
        if self._held is None or self._held[:2] != (group, column):
            with parsing(InputError, f"{self.file} cannot be read ({{reason}}): {FETCH}."):
                held = self._reader.read_row_group(group, columns=[column]).column(0).to_pylist()
            self._held = (group, column, held)
        held = self._held[2][row - self._starts[group]]
        if isinstance(held, dict) and held.get("bytes") is not None:
            return HeldFile(f"the picture of row {row + 1} of {self.file}", held["bytes"])
        return _of_path(self._root, held.get("path") if isinstance(held, dict) else held)


def _parquet(file: Path) -> "parquet.ParquetFile":
    try:
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            f"{file} is read with pyarrow, which is not installed: pip install 'perceptio[parquet]'."
        ) from None
    with parsing(DataError, f"{file} cannot be read ({{reason}}): {FETCH}."):
        return parquet.ParquetFile(file)


def _lines(file: Path) -> list[Any]:
    rows = []
    for line in read_lines(file):
        try:
            rows.append(parse_json(line.text))
        except InvalidJSONError as problem:
            raise DataError(f"{file} line {line.number} is not JSON ({problem}): {FETCH}.") from problem
    return rows


def _of_path(root: Path, path: object) -> Path:
    if (reason := why_not_inside(path)) is not None:
        raise InputError(f"The picture {quoted(path)} {reason}.")
    assert isinstance(path, str)
    return resolved_inside(root, path, InputError)


def files_named(place: Path, *patterns: str) -> list[Path]:
    """Return a file itself; or, for a folder, the sorted files that match the first pattern with any match."""
    if place.is_file():
        return [place]
    return next((found for pattern in patterns if (found := sorted(place.glob(pattern)))), [])
