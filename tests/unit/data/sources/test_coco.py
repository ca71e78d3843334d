"""COCO's published files, built small and real, as samples."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published import CATEGORIES, instances, write_pictures
from pycocotools import mask as coco

from perceptio.data.sources.coco import COCOSource
from perceptio.data.sources.coco_objects import spoken
from perceptio.data.sources.places import NamedObject, expressions
from perceptio.errors import DataError, RecipeError
from perceptio.interfaces import LeftOut, SourceSample

REAL = Path(__file__).parents[5] / "shared/data"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"there is no {REAL}, which holds some real pictures")


def samples(**settings):
    return [one for one in COCOSource(**settings).samples() if isinstance(one, SourceSample)]


def left_out(**settings):
    return [one for one in COCOSource(**settings).samples() if isinstance(one, LeftOut)]


def named(**facts):
    return NamedObject(**({"id": 1, "category": "dog", "share": 0.1, "center_x": 0.5} | facts))


def said(*objects, smallest=0.01):
    return {words: one.id for words, one in expressions(objects, smallest)}


def test_the_only_one_of_its_category_goes_by_its_name():
    assert said(named(), named(id=2, category="cat")) == {"the dog": 1, "the cat": 2}
    assert said(named(share=0.009)) == {} and said(named(share=0.01)) == {"the dog": 1}


def test_of_several_the_places_that_are_clear_are_said():
    left, middle, right = (named(id=i + 1, center_x=x) for i, x in enumerate((0.2, 0.5, 0.8)))
    assert said(middle, right, left) == {"the leftmost dog": 1, "the rightmost dog": 3}
    near = named(id=4, center_x=0.2499)
    assert said(left, near, right) == {"the rightmost dog": 3}
    big = named(id=5, share=0.16, center_x=0.21)
    assert said(left, big, right) == {"the rightmost dog": 3, "the largest dog": 5}
    assert "the largest dog" not in said(left, named(id=5, share=0.15, center_x=0.21), right)


def test_nothing_is_said_where_something_could_mean_another():
    hardly_visible, crowd = named(id=2, share=0.001, center_x=0.9), named(id=2, crowd=True)
    assert said(named(), hardly_visible) == said(named(), crowd) == {}
    assert said(named(share=0.0), smallest=0.0) == {}
    assert said(named(category="bear"), named(id=2, category="teddy bear")) == {"the teddy bear": 2}
    assert said(named(category="wall"), named(id=2, category="brick wall")) == {"the brick wall": 2}
    assert said(named(category="car"), named(id=2, category="cart")) == {"the car": 1, "the cart": 2}


@pytest.mark.parametrize(
    ("category", "words"),
    [
        ("person", "person"),
        ("sky-other-merged", "sky"),
        ("wall-brick", "brick wall"),
        ("floor-wood", "wood floor"),
        ("window-blind", "window blind"),
        ("mirror-stuff", "mirror"),
        ("tree-merged", "tree"),
    ],
)
def test_panoptic_names_become_words(category, words):
    assert spoken(category) == words


@pytest.fixture
def small(tmp_path):
    """Three pictures with four objects each, and five captions a picture, in COCO's layout."""
    held = instances(3, 4, points=12)
    folder = tmp_path / "coco"
    write_pictures(folder / "train2017", range(101, 104))
    (folder / "annotations").mkdir()

    def write(change=lambda held, captions: None):
        captions = {
            "images": [dict(one) for one in held["images"]],
            "annotations": [
                {"image_id": 101 + i // 5, "id": 500 + i, "caption": f"Caption number {i}. \n"}
                for i in range(15)
            ],
        }
        change(held, captions)
        (folder / "annotations/instances_train2017.json").write_text(json.dumps(held))
        (folder / "annotations/captions_train2017.json").write_text(json.dumps(captions))
        return str(folder)

    return write


def test_questions_are_drawn_by_the_seed_and_the_same_each_time(small):
    folder = small()
    found = samples(folder=folder)
    assert found == samples(folder=folder) != samples(folder=folder, seed=1)
    assert [one.id for one in found] == ["train2017-101", "train2017-102", "train2017-103"]
    for one in found:
        captions = [turn for turn in one.turns if turn.task == "caption"]
        referring = [turn for turn in one.turns if turn.task == "referring"]
        assert len(captions) == 1 and 1 <= len(referring) <= 5
        assert {number for turn in referring for number in turn.objects} == {mask.id for mask in one.masks}
        number = int(captions[0].answer.split()[2].rstrip("."))
        assert captions[0].id == f"caption{500 + number}" and number // 5 == int(one.id[-3:]) - 101
        assert captions[0].question == "Describe this image in one sentence."
    assert {len(one.turns) for one in samples(folder=folder, objects="none", captions=9)} == {5}
    assert {turn.task for one in samples(folder=folder, captions=0) for turn in one.turns} == {"referring"}
    assert max(len(one.turns) for one in samples(folder=folder, captions=0, expressions=1)) == 1


def test_what_an_expression_says_holds_of_the_masks(small):
    held, checked = instances(3, 4, points=12), 0
    kinds = {one["id"]: CATEGORIES[one["category_id"]] for one in held["annotations"]}
    for one in samples(folder=small(), captions=0, expressions=99):
        masks = {mask.id: coco.decode({"size": list(mask.size), "counts": mask.counts}) for mask in one.masks}
        for turn in one.turns:
            words = turn.question.removeprefix("Please segment the ").removesuffix(" in this image.")
            (number,) = turn.objects
            alike = [key for key, kind in kinds.items() if kind == kinds[number] and key in masks]
            assert words.split()[-1] == kinds[number]
            if words.startswith("largest"):
                assert masks[number].sum() == max(masks[key].sum() for key in alike)
                checked += 1
    assert checked >= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda held, _: held["images"].append(held["images"][1]),
            "instances_train2017.json has the picture 102 twice",
        ),
        (
            lambda held, _: held["categories"].append(held["categories"][0] | {"name": "axolotl"}),
            "instances_train2017.json has the category [0-9]+ twice, by two names",
        ),
        (
            lambda held, _: held["annotations"][0].update(category_id=7),
            "has no category 7, which annotation 1001 names; it has 3",
        ),
        (
            lambda held, _: held["annotations"][0].pop("category_id"),
            "has annotation 1001 without a category, as a file of captions has: name a file of instances",
        ),
        (
            lambda held, _: held["annotations"][1].update(id=1001),
            "instances_train2017.json has the annotation 1001 twice",
        ),
        (
            lambda _, captions: captions["annotations"][0].update(caption=None),
            "caption 500 of picture 101 is None, and not a text with a whole number as its id",
        ),
        (lambda held, _: held["annotations"][0].pop("image_id"), "an annotation has image_id None"),
        (
            lambda _, captions: captions["annotations"][0].pop("id"),
            "caption None of picture 101 is 'Caption number 0. \\\\n', and not a text with a whole number as its id",
        ),
        (
            lambda _, captions: captions["annotations"][6].update(id=500),
            "captions_train2017.json has the annotation 500 twice",
        ),
        (
            lambda held, _: held["annotations"][0].update(id=0),
            "an annotation of picture 101 has the id 0, which is no whole number from 1",
        ),
        (
            lambda held, _: held["annotations"][0].update(iscrowd="0"),
            "annotation 1001 has iscrowd '0', which is neither 0 nor 1",
        ),
        (
            lambda held, _: held["categories"][0].update(name=" "),
            "the category 1 has a name without words",
        ),
        (
            lambda held, _: held["images"][1].update(file_name=held["images"][0]["file_name"]),
            "has 'COCO_train2014_000000000101.jpg' as the picture 101 and as 102",
        ),
        (
            lambda held, _: held["annotations"][0].update(image_id=999),
            r"instances_train2017.json has annotations of 1 picture that it does not list, such as 999:",
        ),
        (
            lambda _, captions: captions["annotations"][7].update(image_id=998),
            r"captions_train2017.json has annotations of 1 picture that it does not list, such as 998",
        ),
        (
            lambda _, captions: captions["images"][1].update(file_name="another.jpg"),
            "Picture 102 is 'COCO_train2014_000000000102.jpg' of 64x48 pixels in .*instances_train2017.json and "
            "'another.jpg' of 64x48 pixels in .*captions_train2017.json: the two do not belong together",
        ),
        (
            lambda _, captions: captions["images"][2].update(width=640, height=480),
            "Picture 103 is .* of 64x48 pixels in .* of 640x480 pixels in .*: the two do not belong together",
        ),
    ],
)
def test_what_is_broken_is_named_by_its_file_and_id(small, change, message):
    with pytest.raises(DataError, match=message):
        samples(folder=small(change), captions=5)


def test_what_cannot_be_spoken_of_is_left_out_with_a_reason(small):
    def change(held, captions):
        held["annotations"] = [one for one in held["annotations"] if one["image_id"] != 102]
        held["annotations"][0]["segmentation"] = []
        held["annotations"][1]["segmentation"] = [[1, 2]]
        captions["annotations"][0]["caption"] = " \n"

    folder = small(change)
    (Path(folder) / "train2017/COCO_train2014_000000000103.jpg").unlink()
    with pytest.raises(
        DataError, match="000103.jpg is missing, and picture 103 of .*instances_train2017.json names it"
    ):
        samples(folder=folder)
    assert left_out(folder=folder, captions=0, missing="leave_out") == [
        LeftOut(what="annotation 1001 of picture 101", why="its mask has no pixel"),
        LeftOut(what="annotation 1002 of picture 101", why="a polygon has fewer than three points"),
        LeftOut(what="annotation 1002 of picture 101", why="its mask has no pixel"),
        LeftOut(what="picture 102", why="nothing can be asked about it"),
        LeftOut(what="picture 103", why="its picture is missing"),
    ]
    found = left_out(folder=folder, captions=5, objects="none", missing="leave_out")
    assert found[0] == LeftOut(what="caption 500 of picture 101", why="the caption has no words")


def test_captions_of_pictures_without_objects_are_counted_as_left_out(small):
    def change(held, captions):
        held["images"] = held["images"][:2]
        held["annotations"] = [one for one in held["annotations"] if one["image_id"] != 103]
        captions["images"] += [{"id": 104, "file_name": "104.jpg", "height": 48, "width": 64}]

    folder = small(change)
    assert [one.id for one in samples(folder=folder)] == ["train2017-101", "train2017-102"]
    alone = LeftOut(what="5 captions of picture 103", why="the file of objects does not list their picture")
    assert left_out(folder=folder) == [alone]
    assert left_out(folder=folder, captions=0) == []
    (Path(folder) / "train2017/104.jpg").write_bytes(b"not opened where no mask is asked for")
    assert len(samples(folder=folder, objects="none")) == 3


def test_files_and_settings_that_do_not_fit_are_told(small, tmp_path):
    folder = small()
    with pytest.raises(
        DataError, match="There is no .*instances_val2017.json: check the folder and split=val2017"
    ):
        samples(folder=folder, split="val2017")
    with pytest.raises(
        DataError, match="no .*mine.json: .* --set captions_file=FILE, or do without it with --set captions=0"
    ):
        samples(folder=folder, captions_file="mine.json")
    with pytest.raises(DataError, match="--set objects_file=FILE, or do without it with --set objects=none"):
        samples(folder=folder, objects="panoptic")
    for settings in ({"expressions": -1}, {"smallest": 1.5}, {"objects": "none", "captions": 0}):
        with pytest.raises(RecipeError, match="must not be below 0|must be a share|so that nothing is asked"):
            COCOSource(folder=folder, **settings)


def test_panoptic_segments_are_things_and_stuff(tmp_path):
    ids_HW = np.full((48, 64), 257)
    ids_HW[30:] = 9
    ids_HW[8:20, 4:16] = 77
    folder = tmp_path / "coco"
    (folder / "annotations/panoptic_val2017").mkdir(parents=True)
    colors = np.stack([ids_HW % 256, ids_HW // 256, 0 * ids_HW], axis=-1).astype(np.uint8)
    Image.fromarray(colors).save(folder / "annotations/panoptic_val2017/000000000101.png")
    write_pictures(folder / "val2017", [101])
    infos = [
        {"id": 257, "category_id": 187, "iscrowd": 0},
        {"id": 9, "category_id": 171, "iscrowd": 0},
        {"id": 77, "category_id": 18, "iscrowd": 0},
        {"id": 5, "category_id": 44, "iscrowd": 0},
    ]
    held = {
        "images": instances(1, 0)["images"],
        "annotations": [{"image_id": 101, "file_name": "000000000101.png", "segments_info": infos}],
        "categories": [
            {"id": 187, "name": "sky-other-merged"},
            {"id": 171, "name": "wall-brick"},
            {"id": 18, "name": "dog"},
            {"id": 44, "name": "bottle"},
        ],
    }
    settings = {"folder": str(folder), "split": "val2017", "objects": "panoptic", "captions": 0}
    (folder / "annotations/panoptic_val2017.json").write_text(json.dumps(held))
    (one,) = samples(**settings)
    asked = {
        turn.question.split(maxsplit=2)[2].removesuffix(" in this image."): turn.objects for turn in one.turns
    }
    assert asked == {"the sky": (257,), "the brick wall": (9,), "the dog": (77,)}
    for mask in one.masks:
        drawn = coco.decode({"size": [48, 64], "counts": mask.counts})
        assert np.array_equal(drawn, ids_HW == mask.id)
    assert left_out(**settings) == [LeftOut(what="annotation 5 of picture 101", why="its mask has no pixel")]
    held["annotations"][0]["segments_info"] = infos[:1] + infos[2:3]
    (folder / "annotations/panoptic_val2017.json").write_text(json.dumps(held))
    assert left_out(**settings) == [
        LeftOut(
            what="annotation 9 of picture 101",
            why="the panoptic PNG shows a segment that the file does not list",
        )
    ]
    (one,) = samples(**settings, smallest=0.0)
    assert sorted(number for turn in one.turns for number in turn.objects) == [77, 257]
    held["annotations"] *= 2
    (folder / "annotations/panoptic_val2017.json").write_text(json.dumps(held))
    with pytest.raises(DataError, match="panoptic_val2017.json has the segments of picture 101 twice"):
        samples(**settings)
    held["annotations"].pop()
    held["annotations"][0]["file_name"] = "../elsewhere.png"
    (folder / "annotations/panoptic_val2017.json").write_text(json.dumps(held))
    with pytest.raises(DataError, match="the segments of picture 101 have file_name '../elsewhere.png'"):
        samples(**settings)
    (folder / "annotations/panoptic_val2017").rename(folder / "elsewhere")
    with pytest.raises(
        DataError,
        match="no folder .*/panoptic_val2017 with the PNGs of .*: unpack panoptic_val2017.zip there",
    ):
        samples(**settings)


@real
@pytest.mark.parametrize(
    ("folder", "settings", "pictures"),
    [
        ("tiny_coco", {}, 50),
        ("coco128", {"objects": "panoptic", "captions": 0, "missing": "leave_out"}, 100),
        ("coco128", {"objects": "panoptic", "captions": 0, "split": "val2017", "missing": "leave_out"}, 100),
    ],
)
def test_real_pictures_have_questions_whose_masks_are_the_published_ones(folder, settings, pictures):
    found = samples(folder=str(REAL / folder), **settings)
    assert 0.9 * pictures <= len(found) <= pictures
    for one in found:
        areas = {
            mask.id: int(coco.area({"size": list(mask.size), "counts": mask.counts}))
            for mask in one.masks or ()
        }
        assert all(areas.values())
        assert {number for turn in one.turns for number in turn.objects} == set(areas)
