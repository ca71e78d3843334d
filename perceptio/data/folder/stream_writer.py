"""Writing a data folder line by line for samples whose files exist already; interrupted writing can continue."""

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from perceptio.data.folder.dataset_info import INFO_FILE, UNFINISHED_FILE, DatasetInfo, info_problems
from perceptio.data.folder.line_rules import line_problems
from perceptio.data.folder.records import LINES_FILE, SampleRecord
from perceptio.data.tasks import task_rules
from perceptio.errors import DataError, quoted
from perceptio.ops.files import disk_errors, expanded, folder_lock
from perceptio.ops.foreign import parsing
from perceptio.ops.json_files import (
    InvalidJSONError,
    format_json,
    parse_json,
    read_json,
    read_lines,
    write_json,
)
from perceptio.ops.wording import number_of


def has_begun(path: Path | str) -> bool:
    """Return whether a folder has samples of an interrupted writer, so that only the same writer can continue it."""
    lines = expanded(path) / LINES_FILE
    if not (lines.with_name(UNFINISHED_FILE).is_file() and lines.is_file()):
        return False
    first = next(read_lines(lines), None)
    return first is not None and first.start + len(first.text) < lines.stat().st_size


class FolderWriter:
    """Writes the samples of a data folder one after the other, using little memory.

    Until the block succeeds, the folder is marked as unfinished, and nothing reads it. A writer of the same folder
    continues where an earlier one was interrupted: the first `written` samples exist and must not be added again. If
    it was interrupted before its first sample, any other writer starts anew.

        with FolderWriter(out, info) as writer:
            for record in islice(records, writer.written, None):
                writer.add(record)

    Args:
        path: The folder; files that samples name may be in it.
        info: The content for `dataset.json`.

    Attributes:
        written: Number of samples written.

    Raises:
        DataError: The folder is finished already, or has samples of another `info`; another process writes it; or it
            cannot be written.
    """

    def __init__(self, path: Path | str, info: DatasetInfo) -> None:
        self.path, self.info, self.written = expanded(path), info, 0
        for problem in info_problems(info.to_json()):
            raise DataError(f"{self.path} cannot be written, as of its {INFO_FILE}: {problem}")
        self._rules = task_rules()
        self._ids: set[str] = set()
        self._held = ExitStack()
        self._lines: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, or continue."""
        with ExitStack() as held:
            held.enter_context(disk_errors(self.path, DataError))
            held.enter_context(folder_lock(self.path))
            self._begin()
            self._held = held.pop_all()
        return self

    def _begin(self) -> None:
        marker, lines = self.path / UNFINISHED_FILE, self.path / LINES_FILE
        if (self.path / INFO_FILE).exists():
            raise DataError(f"{self.path} is a data folder already: choose another folder, or remove it.")
        if lines.exists() and not marker.exists():
            raise DataError(
                f"{self.path} has {LINES_FILE}, and nothing says what it is of: choose another folder, or remove the "
                "file."
            )
        end = self._read_what_is_there(lines) if lines.exists() else 0
        if self.written:
            self._check_begun(marker)
        else:
            write_json(marker, self.info.to_json())
        self._lines = lines.open("ab")
        self._lines.truncate(end)

    def _check_begun(self, marker: Path) -> None:
        """Refuse to continue samples of another `info`."""
        now, begun = self.info.to_json(), read_json(marker, remedy=f"remove {self.path}, and begin again")
        if begun != now:
            begun = begun if isinstance(begun, dict) else {}
            differing = sorted(key for key in {**begun, **now} if begun.get(key) != now.get(key))
            raise DataError(
                f"{self.path} has {number_of(self.written, 'sample')} written with another {INFO_FILE}, which "
                f"differs in {', '.join(differing)}: go on as it was begun, or remove the folder to begin anew."
            )

    def _read_what_is_there(self, lines: Path) -> int:
        """Read the complete lines of an interrupted writer; return the offset of their end, in bytes."""
        end = 0
        for line in read_lines(lines):
            if line.start + len(line.text) >= lines.stat().st_size:
                break  # An incomplete line, without a line break.
            with parsing(DataError, f"{lines} line {line.number} cannot be read ({{reason}}): begin again."):
                self._ids.add(parse_json(line.text)["id"])
            end = line.start + len(line.text) + 1
            self.written += 1
        return end

    def add(self, record: SampleRecord) -> None:
        """Write a sample.

        Raises:
            DataError: A reader would refuse it, or another sample has its id; it is not written.
        """
        assert self._lines is not None, "Samples are added in the block of the writer."
        line = record.to_json()
        for problem in line_problems(line, self.info, self._rules):
            raise DataError(f"Sample {quoted(record.id)} cannot be written: {problem}")
        if record.id in self._ids:
            raise DataError(f"Two samples have the id {quoted(record.id)}: ids must differ.")
        try:
            text = format_json(line)
        except InvalidJSONError as error:
            raise DataError(f"Sample {quoted(record.id)} cannot be written: {error}.") from error
        with disk_errors(self.path, DataError):
            self._lines.write(text.encode())
        self._ids.add(record.id)
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the folder; if the block failed, keep what is written, so that writing can continue."""
        assert self._lines is not None
        with self._held, self._lines:
            self._lines.flush()
            os.fsync(self._lines.fileno())
            if error is None:
                if not self.written:
                    raise DataError(f"{self.path} has no sample: add one at least.")
                os.replace(self.path / UNFINISHED_FILE, self.path / INFO_FILE)
