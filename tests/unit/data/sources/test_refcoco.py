"""RefCOCO's published files, built small, as samples."""

from collections import Counter

import numpy as np
import pytest
from published import instances, picture_name, python2_pickle, refs_of, write_refcoco
from pycocotools import mask as coco

from perceptio.data.sources.refcoco import RefCOCOSource
from perceptio.errors import DataError
from perceptio.interfaces import LeftOut, SourceSample


def taken(folder, **settings):
    return [
        one
        for one in RefCOCOSource(folder=str(folder), **settings).samples()
        if isinstance(one, SourceSample)
    ]


def left_out(folder, **settings):
    return [
        one for one in RefCOCOSource(folder=str(folder), **settings).samples() if isinstance(one, LeftOut)
    ]


def test_a_sample_is_a_picture_with_every_expression_about_it(tmp_path):
    write_refcoco(tmp_path)
    held = instances(6, 2)
    refs = [
        ref
        for ref in refs_of(held, lambda number: "train" if number < 104 else "other")
        if ref["split"] == "train"
    ]
    samples = taken(tmp_path)
    assert [one.image for one in samples] == [f"coco:{picture_name(number)}" for number in (101, 102, 103)]
    assert [one.id for one in samples] == [f"refcoco-unc-train-{number}" for number in (101, 102, 103)]
    turns = {turn.id: turn for one in samples for turn in one.turns}
    assert len(turns) == sum(len(one.turns) for one in samples) == 3 * 2 * 3
    for ref in refs:
        for sentence in ref["sentences"]:
            turn = turns[f"ref{ref['ref_id']}-sent{sentence['sent_id']}"]
            assert turn.question == f"Please segment {sentence['sent']} in this image."
            assert (turn.task, turn.answer, turn.objects) == (
                "referring",
                "Sure, it is segmented.",
                (ref["ann_id"],),
            )


def test_masks_are_what_the_authors_own_reader_makes_of_them(tmp_path):
    """That draws each polygon and adds them up; an object is where the sum is not 0."""
    write_refcoco(tmp_path)
    annotations = {one["id"]: one for one in instances(6, 2)["annotations"]}
    masks = [mask for one in taken(tmp_path) for mask in one.masks]
    assert len(masks) == 6 and any(len(annotations[mask.id]["segmentation"]) == 2 for mask in masks)
    for mask in masks:
        drawn = coco.decode(coco.frPyObjects(annotations[mask.id]["segmentation"], 48, 64)).sum(axis=2) > 0
        assert mask.size == (48, 64)
        assert np.array_equal(coco.decode({"size": list(mask.size), "counts": mask.counts}), drawn)


@pytest.mark.parametrize(
    ("split", "pictures"),
    [("train", 3), ("val", 1), ("testA", 1), ("testB", 1), ("test", 2)],
)
def test_splits_are_those_of_the_authors_own_reader(tmp_path, split, pictures):
    write_refcoco(tmp_path)
    assert len(taken(tmp_path, split=split)) == pictures


def test_a_ref_of_both_tests_is_of_each(tmp_path):
    write_refcoco(tmp_path, splits=("testAB", "testA", "testB"))
    assert [len(taken(tmp_path, split=one)) for one in ("testA", "testB", "test")] == [4, 4, 6]


def test_the_three_sets_share_their_pictures_and_each_is_split_as_published_results_are(tmp_path):
    for dataset, by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"), ("refcocog", "google")):
        write_refcoco(tmp_path, dataset=dataset, by=by)
    images = [
        {one.image for one in taken(tmp_path, dataset=one)} for one in ("refcoco", "refcoco+", "refcocog")
    ]
    assert images[0] == images[1] == images[2]
    assert taken(tmp_path, dataset="refcocog")[0].id == "refcocog-umd-train-101"
    assert taken(tmp_path, dataset="refcocog", split_by="google")[0].id == "refcocog-google-train-101"
    assert taken(
        tmp_path / "refcocog", dataset="refcocog", images=str(tmp_path / "images/mscoco/images/train2014")
    )
    with pytest.raises(
        DataError, match=r"no .*refs\(google\)\.p; there is split_by=unc: FOLDER holds the published"
    ):
        taken(tmp_path, split_by="google")


def test_a_set_is_never_taken_for_another(tmp_path):
    write_refcoco(tmp_path)
    pictures = str(tmp_path / "images/mscoco/images/train2014")
    with pytest.raises(
        DataError, match=r"refcoco holds refcoco, and dataset is refcoco\+: name the folder above"
    ):
        taken(tmp_path / "refcoco", dataset="refcoco+", images=pictures)
    with pytest.raises(
        DataError, match=r"There is no folder .*/refcoco\+, and .* has no file refs\(….p itself"
    ):
        taken(tmp_path, dataset="refcoco+")


def test_the_same_sequence_is_given_each_time_and_phrasings_are_drawn_by_the_seed(tmp_path):
    write_refcoco(tmp_path)
    assert taken(tmp_path) == taken(tmp_path)
    drawn = {seed: taken(tmp_path, phrasing="varied", seed=seed) for seed in (0, 1)}
    assert drawn[0] == taken(tmp_path, phrasing="varied") != drawn[1]
    assert len(Counter(turn.question.split()[0] for one in drawn[0] for turn in one.turns)) >= 3


def test_two_refs_of_one_object_share_its_mask(tmp_path):
    def twice(held, refs):
        refs[1]["ann_id"] = refs[0]["ann_id"]

    write_refcoco(tmp_path, change=twice)
    first = taken(tmp_path)[0]
    assert len(first.masks) == 1 and len(first.turns) == 6


def test_what_cannot_be_learned_from_is_left_out_with_a_reason(tmp_path):
    def change(held, refs):
        held["annotations"][0]["segmentation"] = [[1.0, 1.0, 3.0, 3.0]]
        held["annotations"][2]["segmentation"].append([5.0, 5.0])
        held["annotations"][4]["segmentation"] = {"size": [48, 60], "counts": [48 * 60]}
        held["annotations"][5]["segmentation"] = {"size": [48, 64], "counts": [48 * 64]}
        refs[3]["sentences"][1]["sent"] = " . "

    write_refcoco(tmp_path, change=change)
    assert left_out(tmp_path) == [
        LeftOut(what="ref 0 with its 3 expressions", why="a polygon has fewer than three points"),
        LeftOut(what="ref 0 with its 3 expressions", why="its mask has no pixel"),
        LeftOut(what="annotation 1003", why="a polygon has fewer than three points"),
        LeftOut(what="ref3-sent10", why="the expression has no words"),
        LeftOut(
            what="ref 4 with its 3 expressions",
            why="its run lengths are those of a mask of another size than its picture",
        ),
        LeftOut(what="ref 5 with its 3 expressions", why="its mask has no pixel"),
    ]
    assert [len(one.turns) for one in taken(tmp_path)] == [3, 5]


def test_a_crowd_s_run_lengths_are_a_mask(tmp_path):
    def crowd(held, refs):
        held["annotations"][0] |= {
            "iscrowd": 1,
            "segmentation": {"size": [48, 64], "counts": [100, 30, 48 * 64 - 130]},
        }

    write_refcoco(tmp_path, change=crowd)
    mask = taken(tmp_path)[0].masks[0]
    assert mask.id == 1001 and coco.decode({"size": [48, 64], "counts": mask.counts}).sum() == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda held, refs: held["annotations"].pop(0),
            r"instances.json has no annotation 1001, which ref 0 of .*refs\(unc\).p names: the two do not belong",
        ),
        (
            lambda held, refs: held["annotations"][0].update(image_id=103),
            "annotation 1001 is of the picture 103, and ref 0 of .* names the picture 101",
        ),
        (lambda held, refs: held["images"].pop(0), "instances.json has no picture 101, which ref 0 of"),
        (
            lambda held, refs: held["images"].append(held["images"][0]),
            "instances.json has the picture 101 twice",
        ),
        (
            lambda held, refs: held["annotations"].append(held["annotations"][0]),
            "instances.json has the annotation 1001 twice",
        ),
        (
            lambda held, refs: held["categories"].clear(),
            r"has no category \d+, which ref 0 of .* names; it has 0",
        ),
        (
            lambda held, refs: refs[0].pop("ann_id"),
            "ref number 1 has ann_id None, and the published ones have int",
        ),
        (lambda held, refs: refs[1].update(ref_id=0), "has the ref 0 twice"),
        (
            lambda held, refs: refs[0]["sentences"][2].update(sent_id=1),
            r"refs\(unc\).p: ref 0 has the sentence 1 twice",
        ),
        (
            lambda held, refs: refs[0]["sentences"][0].update(sent=7),
            "a sentence of ref 0 has sent 7, and the published ones have str",
        ),
        (
            lambda held, refs: held["images"][0].update(width=0),
            "picture 101 is 0x48 pixels, which is no picture's",
        ),
        (
            lambda held, refs: held["images"][0].update(width=2**31),
            "picture 101 is 2147483648x48 pixels, which is no picture's",
        ),
        (
            lambda held, refs: held["images"][0].update(id="101"),
            "a picture has id '101', which is no whole number",
        ),
        (
            lambda held, refs: held["images"][0].update(file_name="../secret.jpg"),
            r"ref 0 of .*refs\(unc\).p names the picture '../secret.jpg', which must be a path inside the folder",
        ),
    ],
)
def test_what_is_broken_is_named_by_its_file_and_id(tmp_path, change, message):
    write_refcoco(tmp_path, change=change)
    with pytest.raises(DataError, match=message):
        taken(tmp_path)


def test_a_ref_without_an_expression_is_counted_and_its_mask_is_not_taken(tmp_path):
    def change(held, refs):
        refs[0]["sentences"] = []
        for sentence in refs[2]["sentences"]:
            sentence["sent"] = "\n"

    write_refcoco(tmp_path, change=change)
    assert left_out(tmp_path) == [
        LeftOut(what="ref 0", why="it has no expression"),
        *(LeftOut(what=f"ref2-sent{number}", why="the expression has no words") for number in (6, 7, 8)),
    ]
    for one in taken(tmp_path):
        assert {mask.id for mask in one.masks} == {number for turn in one.turns for number in turn.objects}


def test_an_unknown_split_names_what_was_meant_and_what_there_is(tmp_path):
    write_refcoco(tmp_path)
    with pytest.raises(
        DataError, match=r"no split 'valid'; did you mean 'val'\? There is: test, testA, testB, train, val."
    ):
        taken(tmp_path, split="valid")


def test_a_missing_picture_is_told_or_left_out(tmp_path):
    write_refcoco(tmp_path)
    (tmp_path / "images/mscoco/images/train2014" / picture_name(102)).unlink()
    with pytest.raises(
        DataError, match=r"000102.jpg is missing, and ref 2 of .* names it: download it, .*missing=leave_out"
    ):
        taken(tmp_path)
    assert len(taken(tmp_path, missing="leave_out")) == 2
    assert left_out(tmp_path, missing="leave_out") == [
        LeftOut(what="picture 102 with its 2 refs", why="its picture is missing")
    ]


def test_a_folder_of_pictures_that_is_not_there_is_told(tmp_path):
    with pytest.raises(
        DataError, match=r"There is no folder of pictures \(.*train2014.*\): give it with --set images="
    ):
        RefCOCOSource(folder=str(tmp_path)).info()
    with pytest.raises(DataError, match=r"There is no folder of pictures \(.*/mine\): give it with"):
        RefCOCOSource(folder=str(tmp_path), images="mine").info()


def test_published_files_cut_short_are_told(tmp_path):
    write_refcoco(tmp_path)
    whole = (tmp_path / "refcoco/instances.json").read_bytes()
    (tmp_path / "refcoco/instances.json").write_bytes(whole[:-20])
    with pytest.raises(
        DataError, match="instances.json is not the JSON that was published .*: download it again"
    ):
        taken(tmp_path)
    (tmp_path / "refcoco/instances.json").write_bytes(whole)
    refs = (tmp_path / "refcoco/refs(unc).p").read_bytes()
    (tmp_path / "refcoco/refs(unc).p").write_bytes(refs[:-20])
    with pytest.raises(
        DataError, match=r"refs\(unc\).p is not the pickle that was published .*: download it again"
    ):
        taken(tmp_path)
    (tmp_path / "refcoco/refs(unc).p").write_bytes(python2_pickle({"refs": []}))
    with pytest.raises(DataError, match="holds a dict, and the published ones a list of refs"):
        taken(tmp_path)
