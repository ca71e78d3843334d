"""NPY files, mapped: the sizes in a header are compared with the file's before memory is taken for them."""

from pathlib import Path

import numpy as np

from perceptio.errors import DataError
from perceptio.ops.foreign import parsing


def mapped_array(path: Path) -> np.ndarray:
    """The array of an NPY file, read from the disk as it is used.

    Raises:
        DataError: The file is missing, cut short, or none; one that holds objects is none, as it asks to run code.
    """
    with parsing(DataError, f"{path} cannot be read as NPY ({{reason}}): write it again with numpy.save."):
        if not path.is_file():
            raise DataError(f"{path} does not exist.")
        return np.lib.format.open_memmap(path, mode="r")
