"""NPY files, mapped: the sizes in a header are compared with the file's before memory is taken for them."""

import io
import math

import numpy as np

from perceptio.errors import DataError
from perceptio.ops.foreign import parsing
from perceptio.ops.held_files import AnyFile, HeldFile


def mapped_array(path: AnyFile) -> np.ndarray:
    """The array of an NPY file, read from the disk as it is used, if it lies there.

    Raises:
        DataError: The file is missing, cut short, or none; one that holds objects is none, as it asks to run code.
    """
    with parsing(DataError, f"{path} cannot be read as NPY ({{reason}}): write it again with numpy.save."):
        if isinstance(path, HeldFile):
            return _array_in(path.content)
        if not path.is_file():
            raise DataError(f"{path} does not exist.")
        return np.lib.format.open_memmap(path, mode="r")


def _array_in(content: bytes) -> np.ndarray:
    """The array of the bytes of an NPY file, which it shares with them."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    count = math.prod(shape)
    values = np.frombuffer(content, dtype, count, stream.tell()) if count else np.zeros(0, dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")
