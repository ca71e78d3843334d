"""Pictures of a published data set that are not there, are links, or do not fit what is about them."""

import os
import shutil

import numpy as np
import pytest
from layouts import write_array
from PIL import ExifTags, Image
from published import picture_name, write_refcoco

from perceptio.data.folder import FolderDataset
from perceptio.data.sources.ade20k import ADE20KSource
from perceptio.data.sources.depth_pairs import DepthPairsSource
from perceptio.data.sources.importing import import_source
from perceptio.data.sources.pictures import AS_STORED, MISSING, OTHER_SIZE, TURNED, UNREADABLE
from perceptio.data.sources.refcoco import RefCOCOSource
from perceptio.errors import DataError
from perceptio.interfaces import LeftOut, SourceSample

TURNED_RIGHT = 6
"""The EXIF orientation that shows a picture of 48x64 stored pixels as one of 64x48."""


def save(path, size, orientation=None):
    """A JPEG of stored (height, width)."""
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    Image.new("RGB", size[::-1]).save(path, exif=exif)


@pytest.fixture
def published(tmp_path):
    """RefCOCO whose first picture is 101, of 64x48 pixels; its folder of pictures."""
    write_refcoco(tmp_path)
    return tmp_path / "images/mscoco/images/train2014"


def taken(folder, **settings):
    return list(RefCOCOSource(folder=str(folder), **settings).samples())


@pytest.mark.parametrize(
    ("size", "orientation", "message", "why"),
    [
        (
            (40, 60),
            None,
            r"101.jpg is 60x40 pixels, and .*instances.json says that picture 101 is 64x48 pixels: download both "
            "again, or bring them to one size, or import what is there with --set missing=leave_out",
            OTHER_SIZE,
        ),
        (
            (48, 64),
            TURNED_RIGHT,
            r"101.jpg is 48x64 pixels as its EXIF orientation shows it, and .*instances.json says that picture 101 "
            r"is 64x48 pixels, of the picture as stored: remove the orientation from the file "
            r"\(exiftool -Orientation= FILE\), or import what is there",
            AS_STORED,
        ),
        ((48, 60), TURNED_RIGHT, "101.jpg is 48x60 pixels, and .* is 64x48 pixels", OTHER_SIZE),
        ((4, 64), None, "101.jpg is 64x4 pixels: an image needs at least 8", UNREADABLE),
    ],
)
def test_a_picture_that_does_not_fit_is_refused_or_left_out(
    published, tmp_path, size, orientation, message, why
):
    save(published / picture_name(101), size, orientation)
    with pytest.raises(DataError, match=message):
        taken(tmp_path)
    assert taken(tmp_path, missing="leave_out")[0] == LeftOut(what="picture 101 with its 2 refs", why=why)


@pytest.mark.parametrize(
    ("stored", "orientation", "notes"),
    [((64, 48), TURNED_RIGHT, ()), ((48, 64), 3, (TURNED,)), ((48, 64), 1, ()), ((48, 64), 77, ())],
)
def test_a_picture_fits_as_it_is_shown_and_what_cannot_be_told_is_noted(
    published, tmp_path, stored, orientation, notes
):
    save(published / picture_name(101), stored, orientation)
    first = taken(tmp_path)[0]
    assert isinstance(first, SourceSample) and first.notes == notes


def test_class_numbers_and_depth_of_a_picture_as_stored_are_refused(tmp_path):
    save(tmp_path / "rgb/a.jpg", (48, 64), TURNED_RIGHT)
    write_array(tmp_path / "classes/a.png", np.ones((48, 64), np.uint8))
    write_array(tmp_path / "depth/a.png", np.ones((48, 64), np.uint16))
    (tmp_path / "names.txt").write_text("1 wall\n")
    settings = {"folder": str(tmp_path), "images": "rgb/{key}.jpg"}
    classes = ADE20KSource(annotations="classes/{key}.png", names="names.txt", **settings)
    depth = DepthPairsSource(depth="depth/{key}.png", scale=0.001, **settings)
    for source, what in ((classes, "its class numbers .* are"), (depth, "its depth .* is")):
        with pytest.raises(
            DataError,
            match=f"a.jpg is 48x64 pixels as its EXIF .*, and {what} 64x48 pixels, of the picture as",
        ):
            list(source.samples())
        save(tmp_path / "rgb/a.jpg", (48, 64), 3)
        assert [one.notes for one in source.samples()] == [(TURNED,)]
        save(tmp_path / "rgb/a.jpg", (48, 64), TURNED_RIGHT)


def test_a_link_to_what_is_missing_is_a_missing_picture(published, tmp_path):
    picture = published / picture_name(101)
    picture.unlink()
    picture.symlink_to(tmp_path / "blobs/gone")
    with pytest.raises(
        DataError, match="101.jpg is a link to what is missing, and ref 0 of .* names it: download"
    ):
        taken(tmp_path)
    assert taken(tmp_path, missing="leave_out")[0].why == MISSING
    picture.unlink()
    picture.symlink_to(picture)
    assert taken(tmp_path, missing="leave_out")[0].why == MISSING


def test_pictures_may_lie_in_folders_within_the_folder(tmp_path):
    def moved(held, refs):
        for one in held["images"]:
            one["file_name"] = f"part/{one['file_name']}"

    write_refcoco(tmp_path, change=moved)
    images = tmp_path / "images/mscoco/images/train2014"
    with pytest.raises(DataError, match="train2014/part/COCO_train2014_000000000101.jpg is missing"):
        taken(tmp_path)
    images.rename(tmp_path / "part")
    images.mkdir()
    (tmp_path / "part").rename(images / "part")
    assert taken(tmp_path)[0].image == f"coco:part/{picture_name(101)}"


def test_pictures_that_are_links_elsewhere_are_told_at_import_and_can_be_linked(published, tmp_path):
    """As in the cache of a hub, where pictures are links to files that are called after their hashes."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, picture in enumerate(sorted(published.iterdir())):
        shutil.move(picture, blobs / str(number))
        picture.symlink_to(os.path.relpath(blobs / str(number), published))
    source = RefCOCOSource(folder=str(tmp_path))
    with pytest.raises(
        DataError,
        match=r"101.jpg is a link out of .*train2014 to .*blobs/0, .*: import with --pictures link, which",
    ):
        import_source(source, tmp_path / "named")
    report = import_source(source, tmp_path / "linked", pictures="link")
    dataset = FolderDataset(report.folder)
    assert len(dataset) == 3 and dataset[0].image_3HW.shape == (3, 48, 64)
