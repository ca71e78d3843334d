"""Where the pictures of a published data set lie, whether they are there, and whether they fit what is about them.

Masks, class numbers and depth must be of a picture as it is shown, after its EXIF rotation, which is how pictures are
read. Some tools draw masks on a picture as it is stored, others as it is shown: so sizes are compared, and a picture
that fits only as it is stored is refused.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from perceptio.data.sources.coco_files import Picture
from perceptio.errors import DataError, InputError, quoted
from perceptio.ops.files import expanded
from perceptio.ops.foreign import parsing
from perceptio.ops.image_files import Extent, read_extent
from perceptio.ops.paths import why_not_inside

Missing = Literal["refuse", "leave_out"]
"""What becomes of a picture that annotations name and that is not there, or does not fit them."""
MISSING = "its picture is missing"
UNREADABLE = "its picture cannot be read"
OTHER_SIZE = "its picture is of another size than its annotations say"
AS_STORED = "its annotations are of the picture as stored, which its EXIF orientation turns"
"""Why something is left out."""
TURNED = "the picture is turned by its EXIF orientation, and its annotations are taken to be of it as shown"
"""Of a picture whose size is the same either way, so that nothing else can be told."""


class UnusablePictureError(DataError):
    """A picture is not there, or does not fit what is about it.

    Attributes:
        why: Why what is about it is left out, where it is.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


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


def extent_of(picture: Path) -> Extent:
    """How large a picture is, by its header.

    Raises:
        UnusablePictureError: It cannot be read.
    """
    try:
        return read_extent(picture)
    except InputError as error:
        raise UnusablePictureError(str(error), UNREADABLE) from error


def check_fits(picture: Path, size: tuple[int, int], stated: str, or_else: str = "") -> tuple[str, ...]:
    """Refuse a picture that, as it is shown, is of another size than what belongs to it; its header is read.

    Args:
        picture: The file of the picture.
        size: The height and width that it must have.
        stated: What has that size, such as `"its depth map d.png is"`.
        or_else: What else can be done about it.

    Returns:
        Notes on the sample.

    Raises:
        UnusablePictureError: It is of another size, or cannot be read.
    """
    extent = extent_of(picture)
    if size == extent.shown:
        return (TURNED,) if extent.turned and size == extent.stored else ()
    if size == extent.stored:
        raise UnusablePictureError(
            f"{picture} is {_pixels(extent.shown)} as its EXIF orientation shows it, and {stated} {_pixels(size)}, "
            f"of the picture as stored: remove the orientation from the file (exiftool -Orientation= FILE){or_else}.",
            AS_STORED,
        )
    raise UnusablePictureError(
        f"{picture} is {_pixels(extent.shown)}, and {stated} {_pixels(size)}: download both again, or bring them to "
        f"one size{or_else}.",
        OTHER_SIZE,
    )


class Pictures:
    """The pictures of a folder by the names that annotations give them.

    Args:
        root: What paths call the folder.
        folder: The folder, whose names are read once.
    """

    def __init__(self, root: str, folder: Path) -> None:
        self._root, self._folder = root, folder
        with parsing(DataError, f"{folder} cannot be read ({{reason}}): check the path and the disk."):
            self._names = {
                entry.name
                for entry in os.scandir(folder)
                if entry.is_file(follow_symlinks=False) or os.path.isfile(entry)
            }

    def check(self, picture: Picture, named_by: str, sized_by: Path | None) -> tuple[str, ...]:
        """Refuse a picture that is not there, or not of the size that annotations say.

        Args:
            picture: The picture; the name of one in a folder within the folder has `/` in it.
            named_by: What names it: a file, and an id in it.
            sized_by: The file that says its size; None: the size does not matter, and the picture is not opened.

        Returns:
            Notes on the sample.

        Raises:
            DataError: The name leads out of the folder.
            UnusablePictureError: It is missing, does not fit, or cannot be read.
        """
        or_else, name = ", or import what is there with --set missing=leave_out", picture.file_name
        if why := why_not_inside(name):
            raise DataError(f"{named_by} names the picture {quoted(name)}, which {why}.")
        place = self._folder / name
        if name not in self._names and not ("/" in name and place.is_file()):
            missing = "is a link to what is missing" if place.is_symlink() else "is missing"
            raise UnusablePictureError(
                f"{place} {missing}, and {named_by} names it: download it, give the folder with --set "
                f"images=FOLDER{or_else}.",
                MISSING,
            )
        if sized_by is None:
            return ()
        return check_fits(place, picture.size, f"{sized_by} says that picture {picture.id} is", or_else)

    def path(self, name: str) -> str:
        """The path of a picture as a sample has it."""
        return f"{self._root}:{name}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]} pixels"
