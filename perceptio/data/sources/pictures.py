"""Find the pictures of a published data set, and check that they fit their annotations.

Pictures are read as shown, that is, after their EXIF rotation. Masks, class numbers and depth must fit the picture as
shown. Some tools annotate the picture as stored instead. Sizes are therefore compared, and a picture that fits only
as stored is refused.
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
"""What to do with a picture that annotations name and that is missing or does not fit them."""
MISSING = "its picture is missing"
UNREADABLE = "its picture cannot be read"
OTHER_SIZE = "its picture is of another size than its annotations say"
AS_STORED = "its annotations are of the picture as stored, which its EXIF orientation turns"
"""The four reasons for leaving a picture out."""
TURNED = "the picture is turned by its EXIF orientation, and its annotations are taken to be of it as shown"
"""Note on a rotated picture whose size is the same as stored and as shown, so that the two cannot be told apart."""


class UnusablePictureError(DataError):
    """A picture is missing, unreadable, or does not fit its annotations.

    Attributes:
        why: The reason to report if the picture is left out instead.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


def folder_of_pictures(folder: str, given: str | None, usual: Sequence[str]) -> Path:
    """Return the folder that contains the pictures.

    Args:
        folder: The folder with the published files.
        given: The setting `images`: the folder, relative to `folder` or as a path of its own; None: try `usual`.
        usual: Usual folders to try, relative to `folder`.

    Raises:
        DataError: None of the folders exists.
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
    """Return the size of a picture from its header.

    Raises:
        UnusablePictureError: The picture cannot be read.
    """
    try:
        return read_extent(picture)
    except InputError as error:
        raise UnusablePictureError(str(error), UNREADABLE) from error


def check_fits(picture: Path, size: tuple[int, int], stated: str, or_else: str = "") -> tuple[str, ...]:
    """Check that a picture as shown has the size of what belongs to it; only the header is read.

    Args:
        picture: The picture's file.
        size: The height and width that it must have.
        stated: What has that size, such as `"its depth map d.png is"`.
        or_else: Another remedy, appended to the message.

    Returns:
        Notes on the sample.

    Raises:
        UnusablePictureError: The picture has another size or cannot be read.
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
    """The pictures of a folder, by the names that annotations use.

    Args:
        root: The name of the folder in the paths of samples.
        folder: The folder; its file names are read once.
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
        """Check that a picture exists and has the size that annotations state.

        Args:
            picture: The picture; a name with `/` is in a subfolder.
            named_by: What names the picture, for messages: a file, and an id in it.
            sized_by: The file that states the size; None: the size does not matter, and the picture is not opened.

        Returns:
            Notes on the sample.

        Raises:
            DataError: The name leads out of the folder.
            UnusablePictureError: The picture is missing, does not fit, or cannot be read.
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
        """Return the path of a picture as samples write it."""
        return f"{self._root}:{name}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]} pixels"
