"""Memory-mapped NPY files, whose size is checked against their header before memory is allocated."""

import io
import math

import numpy as np

from perceptio.errors import DataError
from perceptio.ops.foreign import parsing
from perceptio.ops.held_files import AnyFile, HeldFile


def mapped_array(path: AnyFile) -> np.ndarray:
    """Return the array of an NPY file, mapped from the disk if the file is on one.

    Raises:
        DataError: The file is missing, truncated, or not NPY; arrays of objects are refused because they can run
            code.
    """
    with parsing(DataError, f"{path} cannot be read as NPY ({{reason}}): write it again with numpy.save."):
        if isinstance(path, HeldFile):
            return _array_in(path.content)
        if not path.is_file():
            raise DataError(f"{path} does not exist.")
        return np.lib.format.open_memmap(path, mode="r")


def _array_in(content: bytes) -> np.ndarray:
    """Return the array in the bytes of an NPY file, without a copy."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    count = math.prod(shape)
    values = np.frombuffer(content, dtype, count, stream.tell()) if count else np.zeros(0, dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")
