"""ADE20K's layout, built small."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perceptio.data.sources.ade20k import ADE20KSource
from perceptio.data.sources.class_names import class_names
from perceptio.errors import DataError, RecipeError
from perceptio.interfaces import LeftOut

NAMES = (
    "Idx\tRatio\tTrain\tVal\tName\n1\t0.2\t1\t1\twall\n2\t0.1\t1\t1\tbuilding, edifice\n3\t0.1\t1\t1\tsky\n"
)
CLASSES_HW = np.zeros((10, 20), np.uint8)
CLASSES_HW[:5] = 1
CLASSES_HW[5:, :10] = 2
CLASSES_HW[9, 19] = 3


@pytest.fixture
def published(tmp_path):
    def publish(classes_HW=CLASSES_HW, split="training", name="ADE_train_00000001", size=(20, 10)):
        for kind in ("images", "annotations"):
            (tmp_path / kind / split).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / f"images/{split}/{name}.jpg")
        if classes_HW is not None:
            Image.fromarray(classes_HW).save(tmp_path / f"annotations/{split}/{name}.png")
        (tmp_path / "objectInfo150.txt").write_text(NAMES)
        return str(tmp_path)

    return publish


def test_each_class_that_shows_enough_is_asked_for_by_its_first_name(published):
    folder = published()
    left_out, sample = ADE20KSource(folder=folder, smallest=0.01).samples()
    assert left_out == LeftOut(
        what="sky in images/training/ADE_train_00000001", why="the class shows too little"
    )
    assert sample.image == "ade20k:images/training/ADE_train_00000001.jpg"
    assert sample.masks == "ade20k:annotations/training/ADE_train_00000001.png"
    assert [(turn.question, turn.objects) for turn in sample.turns] == [
        ("Please segment the wall in this image.", (1,)),
        ("Please segment the building in this image.", (2,)),
    ]
    source = ADE20KSource(folder=folder, smallest=0, expression="every {name}", phrasing="varied")
    (varied,) = source.samples()
    assert list(source.samples()) == [varied] and len(varied.turns) == 3
    assert all("every " in turn.question for turn in varied.turns)
    assert source.info().roots == {"ade20k": folder}


def test_other_data_sets_of_the_form_are_read_by_patterns(tmp_path):
    (tmp_path / "leftImg8bit/val/ulm").mkdir(parents=True)
    (tmp_path / "gtFine/val/ulm").mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(tmp_path / "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png")
    Image.fromarray(np.where(CLASSES_HW == 3, np.uint8(255), CLASSES_HW)).save(
        tmp_path / "gtFine/val/ulm/ulm_0_gtFine_labelIds.png"
    )
    (tmp_path / "names.txt").write_text("1 wall\n\n2: building\n7,traffic light\n")
    settings = {
        "folder": str(tmp_path),
        "images": "leftImg8bit/val/{key}_leftImg8bit.png",
        "annotations": "gtFine/val/{key}_gtFine_labelIds.png",
        "names": "names.txt",
    }
    (sample,) = ADE20KSource(**settings, ignored=(255,)).samples()
    assert [turn.objects for turn in sample.turns] == [(1,), (2,)]
    with pytest.raises(
        DataError, match=r"labelIds\.png has class 255, of which names\.txt says no name.*=\[255\]"
    ):
        list(ADE20KSource(**settings).samples())


def test_what_is_missing_or_does_not_fit_is_said(published):
    folder = published()
    with pytest.raises(
        DataError, match=r"no folder .*images/validation; images has training: set split to one"
    ):
        list(ADE20KSource(folder=folder, split="validation").samples())
    with pytest.raises(DataError, match=r"There is no list of class names .*other\.txt: name the file with"):
        list(ADE20KSource(folder=folder, names="other.txt").samples())
    published(None, name="ADE_train_00000002")
    with pytest.raises(
        DataError, match=r"2 of images .*, 1 of annotations .*ADE_train_00000002\.jpg: set unpaired"
    ):
        list(ADE20KSource(folder=folder).samples())
    alone, *_ = ADE20KSource(folder=folder, unpaired="leave_out").samples()
    assert alone.what == "images/training/ADE_train_00000002.jpg"
    published(CLASSES_HW[:4], name="ADE_train_00000002")
    with pytest.raises(
        DataError, match=r"02\.jpg is 20x10 pixels, and its class numbers .*02\.png are 20x4 pixels: download"
    ):
        list(ADE20KSource(folder=folder).samples())
    published(np.zeros((10, 20, 3), np.uint8), name="ADE_train_00000002")
    with pytest.raises(
        DataError, match="is PNG of mode RGB, and class numbers are a gray PNG: the full ADE20K"
    ):
        list(ADE20KSource(folder=folder).samples())
    published(np.zeros((10, 20), np.uint8), name="ADE_train_00000002")
    *_, nothing = ADE20KSource(folder=folder).samples()
    assert nothing == LeftOut(what="images/training/ADE_train_00000002", why="no class shows enough")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"images": "{key}.jpg"}, "images and annotations must both be set, or neither"),
        ({"smallest": 1.0}, "smallest is 1.0; it must be a share of the picture"),
        ({"expression": "the thing"}, r"expression is 'the thing'; it must have \{name\} in it"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, why):
    with pytest.raises(RecipeError, match=why):
        ADE20KSource(folder="any", **settings)


def test_a_name_that_two_classes_of_a_picture_have_is_not_asked_for(published):
    folder = published()
    names = Path(folder) / "names.txt"
    numbers = sorted(int(number) for number in np.unique(CLASSES_HW) if number)
    names.write_text("".join(f"{number} thing\n" for number in numbers))
    *twice, nothing = ADE20KSource(folder=folder, names="names.txt", smallest=0.0).samples()
    assert [one.why for one in twice] == ["two classes of the picture have this name"] * len(numbers)
    assert nothing.why == "no class shows enough" and len(numbers) >= 2


def test_braces_in_names_and_expressions_are_text(published):
    folder = published()
    numbers = [int(number) for number in np.unique(CLASSES_HW) if number]
    (Path(folder) / "names.txt").write_text("".join(f"{number} {{{number}}}\n" for number in numbers))
    source = ADE20KSource(folder=folder, names="names.txt", expression="a {name} of {x}", smallest=0.0)
    (one,) = source.samples()
    assert f"a {{{numbers[0]}}} of {{x}}" in one.turns[0].question


def test_lists_of_names_are_read_in_their_forms(tmp_path):
    path = tmp_path / "names"
    for text in (
        NAMES,
        "Idx,Ratio,Train,Val,Stuff,Name\n1,0.1,1,1,1,wall\n2,0.1,1,1,1,building;edifice\n3,0.1,1,1,1,sky\n",
        "0 other\n1: wall\n2\tbuilding, edifice\n3,sky\n",
    ):
        path.write_text(text)
        assert class_names(path) == {1: "wall", 2: "building", 3: "sky"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"1 wall\nsky\n", "line 2 is 'sky', and not a number and a name"),
        (b"1 wall\n1 sky\n", "line 2: class 1 is named 'wall' and 'sky'"),
        (b"1 wall\n2: , sky\n", "line 2: class 2 has no name"),
        (b"Idx\tName\n1\n", "line 2 is '1', and not a number and a name"),
        (b"0 other\n", "names no class"),
        (b"1 wall \xff", "cannot be read .*utf-8"),
        (b" " * (2**20 + 1), "and a list of names up to 1,048,576"),
    ],
)
def test_what_is_no_list_of_names_is_said(tmp_path, text, why):
    path = tmp_path / "names"
    path.write_bytes(text)
    with pytest.raises(DataError, match=why):
        class_names(path)
