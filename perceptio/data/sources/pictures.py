"""Where the pictures of a published data set lie, and whether they are there."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from perceptio.errors import DataError
from perceptio.ops.files import expanded
from perceptio.ops.foreign import parsing

Missing = Literal["refuse", "leave_out"]
"""What becomes of a picture that annotations name and that is not there."""
MISSING = "its picture is missing"


def folder_of_pictures(folder: str, given: str | None, usual: Sequence[str]) -> Path:
    """The folder that pictures lie in.

    Args:
        folder: Where the published files lie.
        given: The setting `images`: the folder itself, absolute or within `folder`; None: a usual one.
        usual: The usual ones, within `folder`.

    Raises:
        DataError: There is no such folder.
    """
    base = expanded(folder)
    tried = [base / one for one in ([given] if given is not None else usual)]
    if given is not None:
        tried.append(expanded(given))
    found = next((place for place in tried if place.is_dir()), None)
    if found is None:
        places = ", ".join(map(str, tried[:1] if given is not None else tried))
        raise DataError(f"There is no folder of pictures ({places}): give it with --set images=FOLDER.")
    return found.resolve()


class Pictures:
    """The pictures of a folder by the names that annotations give them.

    Args:
        root: What paths call the folder.
        folder: The folder, whose names are read once.
    """

    def __init__(self, root: str, folder: Path) -> None:
        self._root, self._folder = root, folder
        with parsing(DataError, f"{folder} cannot be read ({{reason}}): check the path and the disk."):
            self._names = {entry.name for entry in os.scandir(folder)}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def path(self, name: str) -> str:
        """The path of a picture as a sample has it."""
        return f"{self._root}:{name}"

    def missing(self, name: str, where: str) -> DataError:
        """What is to be said of a picture that is not there.

        Args:
            name: The name.
            where: What names it: a file, and an id in it.
        """
        return DataError(
            f"{self._folder}/{name[:255]} is missing, and {where} names it: download it, give the folder with "
            "--set images=FOLDER, or import what is there with --set missing=leave_out."
        )
