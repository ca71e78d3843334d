"""Read pickles of plain values (lists, tuples, dictionaries, strings and numbers) without running code."""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from perceptio.errors import DataError
from perceptio.ops.foreign import parsing

MAX_BYTES = 512 * 2**20
"""Maximum size of a file; the largest file of RefCOCO has about 50 MB."""


def read_plain_pickle(path: Path) -> Any:
    """Return the value of a pickle; strings of Python 2 are read as Latin-1.

    Every class or function that the file names is refused before it is looked up. Reading therefore runs no code.
    Memory use is bounded by the size of the file.

    Raises:
        DataError: The file is missing, too large, truncated, not a pickle, or names anything but plain values.
    """
    with parsing(DataError, f"{path} is not the pickle that was published ({{reason}}): download it again."):
        if not path.is_file():
            raise DataError(f"{path} does not exist, or is no file: check the path.")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise DataError(f"{path} has {size:,} bytes, and a pickle is read up to {MAX_BYTES:,}.")
        return _PlainUnpickler(path).load()


class _PlainUnpickler(pickle._Unpickler):
    """Python's unpickler that is written in Python.

    The one written in C allocates as much memory as a file's memo indices ask for.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.BytesIO(path.read_bytes()), encoding="latin-1")
        self._path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse a class or function by its name."""
        raise self._refusal(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse a reference to an object outside of the file."""
        raise self._refusal("an object outside of it")

    def get_extension(self, code: int) -> NoReturn:
        """Refuse a reference to the extension registry."""
        raise self._refusal(f"the extension {code}")

    def _refusal(self, wanted: str) -> DataError:
        return DataError(
            f"{self._path} is a pickle that asks for {wanted[:100]}, and the published ones hold nothing but lists, "
            "dictionaries, strings and numbers: it is not opened; download it again from where it was published."
        )
