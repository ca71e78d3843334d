"""Files that belong together, and every way in which patterns find too little or too much."""

import pytest

from perceptio.data.sources.file_patterns import Pattern, paired
from perceptio.errors import DataError, RecipeError


def made(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def found(folder, unpaired="refuse", **texts):
    return paired({what: Pattern(folder=folder, text=text) for what, text in texts.items()}, unpaired)


def test_files_belong_together_by_the_names_in_braces_whatever_a_star_stands_for(tmp_path):
    made(tmp_path, "a/s1/rgb/1.jpg", "a/s1/rgb/2.png", "b/s2/rgb/1.jpg", "a/s1/rgb/.hidden.jpg")
    made(tmp_path, "train/s1_1.png", "train/s1_2.png", "val/s2_1.png")
    pairs = found(tmp_path, images="*/{scene}/rgb/{frame}.*", depth="*/{scene}_{frame}.png")
    assert pairs.alone == []
    assert [tuple(files.values()) for files in pairs.files] == [
        ("a/s1/rgb/1.jpg", "train/s1_1.png"),
        ("a/s1/rgb/2.png", "train/s1_2.png"),
        ("b/s2/rgb/1.jpg", "val/s2_1.png"),
    ]


def test_a_name_may_stand_for_folders_for_nothing_and_twice(tmp_path):
    made(tmp_path, "rgb_1.jpg", "depth_1.png", "k/l/rgb_1.jpg", "k/l/depth_1.png")
    pairs = found(tmp_path, images="{scene}rgb_{frame}.jpg", depth="{scene}depth_{frame}.png")
    assert [files["images"] for files in pairs.files] == ["k/l/rgb_1.jpg", "rgb_1.jpg"]
    made(tmp_path, "x/x.jpg", "x/y.jpg")
    assert list(Pattern(folder=tmp_path, text="{key}/{key}.jpg").files().values()) == ["x/x.jpg"]


def test_files_without_another_are_refused_with_counts_or_left_out(tmp_path):
    made(tmp_path, *(f"{n}.jpg" for n in "abcdef"), "a.png", "z.png")
    with pytest.raises(DataError) as error:
        found(tmp_path, images="{key}.jpg", depth="{key}.png")
    assert str(error.value) == (
        "There are 6 of images ('{key}.jpg'), 2 of depth ('{key}.png'), of which 1 belong together by {key}. Without "
        "another are 5 of images, b.jpg, c.jpg, d.jpg, …; and 1 of depth, z.png: set unpaired=leave_out, or correct "
        "the patterns."
    )
    pairs = found(tmp_path, "leave_out", images="{key}.jpg", depth="{key}.png")
    assert len(pairs.files) == 1
    assert pairs.alone[0] == ("images", "b.jpg") and pairs.alone[-1] == ("depth", "z.png")


def test_patterns_that_find_nothing_or_too_much_are_said(tmp_path):
    made(tmp_path, "a/1.jpg", "b/1.jpg", "2.png")
    with pytest.raises(DataError, match=r"has no file like '\{key\}.tif': check the folder, or set depth to"):
        found(tmp_path, images="{key}.jpg", depth="{key}.tif")
    with pytest.raises(DataError, match="of which 0 belong together by {key}.*: correct the patterns"):
        found(tmp_path, "leave_out", images="{key}.jpg", depth="{key}.png")
    with pytest.raises(DataError, match=r"a/1.jpg and b/1.jpg both match .* with the same \{key\} = '1'"):
        found(tmp_path, images="*/{key}.jpg", depth="{key}.png")
    with pytest.raises(RecipeError, match=r"must have the same names in braces, such as \{key\}"):
        found(tmp_path, images="{key}.jpg", depth="{id}.png")
    with pytest.raises(RecipeError, match=r"must have the same names in braces, such as \{key\}"):
        found(tmp_path, images="a.jpg", depth="a.png")
    with pytest.raises(DataError, match="There is no folder .*none"):
        found(tmp_path / "none", images="{key}.jpg", depth="{key}.png")
