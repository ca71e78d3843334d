"""Segmentations of COCO as run lengths, beside COCO's own code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from perceptio.data.sources import coco_masks
from perceptio.data.sources.coco_masks import area_and_box, object_mask, panoptic_masks
from perceptio.errors import DataError

SIZE = (12, 17)
NUMBER = st.integers(-200, 2000).map(lambda one: one / 100)
POLYGON = st.lists(NUMBER, min_size=6, max_size=16).map(lambda held: held[: len(held) // 2 * 2])


def decoded(counts):
    return coco.decode({"size": list(SIZE), "counts": counts})


@given(polygons=st.lists(POLYGON, min_size=1, max_size=3))
def test_polygons_are_the_union_that_coco_s_own_code_draws(polygons):
    """As RefCOCO's own reader: each is drawn, and what any of them covers is the object."""
    drawn = coco.decode(coco.frPyObjects(polygons, *SIZE)).max(axis=2)
    found = object_mask(polygons, SIZE)
    if not drawn.any():
        assert found.counts is None and found.left_out == ("its mask has no pixel",)
        return
    assert np.array_equal(decoded(found.counts), drawn) and not found.left_out
    area, (x, y, width, height) = area_and_box(found.counts, SIZE)
    rows, columns = np.nonzero(drawn)
    assert area == drawn.sum()
    assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@given(points=st.lists(NUMBER, min_size=4, max_size=4), polygon=POLYGON)
def test_two_points_draw_nothing_in_coco_s_own_code_either(points, polygon):
    both = coco.decode(coco.frPyObjects([polygon, points], *SIZE))
    assert not both[..., 1].any()
    assert object_mask([polygon, points], SIZE).counts == object_mask([polygon], SIZE).counts


SQUARE = [2, 2, 8, 2, 8, 8, 2, 8]


@pytest.mark.parametrize(
    ("polygon", "why"),
    [
        ([], "a polygon has fewer than three points"),
        ([1, 1, 5, 5], "a polygon has fewer than three points"),
        ([1, 1, 5, 5, 3], "a polygon has fewer than three points"),
        ([1, 1, 5, 5, 3, 8, 9], "a polygon is no list of pairs of numbers near its picture"),
        ([1, 1, 5, 5, 3, "8"], "a polygon is no list of pairs of numbers near its picture"),
        ([1, 1, 5, 5, 3, True], "a polygon is no list of pairs of numbers near its picture"),
        ([1, 1, 5, 5, 3, 1e9], "a polygon is no list of pairs of numbers near its picture"),
        ([1, 1, 5, 5, 3, float("inf")], "a polygon is no list of pairs of numbers near its picture"),
        ([0, 0, 17, 12] * 30_000, "a polygon is longer than a million pixels around"),
        ({"x": 1}, "a polygon is no list of pairs of numbers near its picture"),
    ],
)
def test_a_polygon_that_cannot_be_drawn_is_left_out_and_the_others_stay(polygon, why):
    alone, beside = object_mask([polygon], SIZE), object_mask([polygon, SQUARE], SIZE)
    assert alone.counts is None and alone.left_out == (why, "its mask has no pixel")
    assert beside.counts == object_mask([SQUARE], SIZE).counts and beside.left_out == (why,)


def test_run_lengths_of_both_forms_are_taken_as_they_are():
    mask_HW = np.zeros(SIZE, dtype=np.uint8)
    mask_HW[3:6, 4:9] = 1
    compressed = coco.encode(np.asfortranarray(mask_HW))["counts"].decode()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask_HW.ravel(order="F"), [2]]))).tolist()
    runs = np.diff([0, *edges]).tolist()
    for counts in (compressed, runs):
        found = object_mask({"size": list(SIZE), "counts": counts}, SIZE)
        assert np.array_equal(decoded(found.counts), mask_HW) and not found.left_out


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ({"size": [12, 16], "counts": [192]}, "its run lengths are those of a mask of another size"),
        ({"size": [12, 17], "counts": [4, 200]}, None),
        ({"size": [12, 17], "counts": [4, 199]}, "its run lengths are those of a mask of another size"),
        ({"size": [12, 17], "counts": [204]}, "its mask has no pixel"),
        ({"size": [12, 17], "counts": [-4, 208]}, "its segmentation is neither polygons nor run lengths"),
        ({"size": [12, 17], "counts": [4.5, 199.5]}, "its segmentation is neither polygons nor run lengths"),
        ({"size": [12, 17], "counts": "\x7f"}, "its segmentation is neither polygons nor run lengths"),
        ({"size": [12, 17], "counts": "`"}, "its segmentation is neither polygons nor run lengths"),
        ({"size": [12, 17]}, "its segmentation is neither polygons nor run lengths"),
        (None, "its segmentation is neither polygons nor run lengths"),
        ("204", "its segmentation is neither polygons nor run lengths"),
        ([], "its mask has no pixel"),
    ],
)
def test_what_is_no_mask_of_the_picture_is_left_out_with_a_reason(segmentation, why):
    found = object_mask(segmentation, SIZE)
    if why is None:
        assert found.counts is not None
    else:
        assert found.counts is None and found.left_out[-1].startswith(why)


def test_a_panoptic_png_is_ids_in_base_256(tmp_path):
    ids_HW = np.zeros(SIZE, dtype=np.int64)
    ids_HW[:, 5:] = 7
    ids_HW[4:, 9:] = 3 + 256 * 2 + 65536 * 9
    colors_HW3 = np.stack([ids_HW % 256, ids_HW // 256 % 256, ids_HW // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colors_HW3).save(tmp_path / "one.png")
    found = dict(panoptic_masks(tmp_path / "one.png", [7, 3 + 256 * 2 + 65536 * 9, 12], SIZE))
    for one in (7, 3 + 256 * 2 + 65536 * 9):
        assert np.array_equal(decoded(found[one]), ids_HW == one)
    assert found[12] is None
    with pytest.raises(DataError, match="one.png is 17x12 pixels, and its picture is 12x17"):
        dict(panoptic_masks(tmp_path / "one.png", [7], (17, 12)))
    Image.fromarray(colors_HW3[..., 0]).save(tmp_path / "gray.png")
    with pytest.raises(DataError, match="gray.png is PNG of mode L; panoptic masks are RGB PNGs"):
        dict(panoptic_masks(tmp_path / "gray.png", [7], SIZE))
    with pytest.raises(DataError, match="none.png does not exist"):
        dict(panoptic_masks(tmp_path / "none.png", [7], SIZE))


def test_nothing_that_coco_s_code_does_not_check_reaches_it(monkeypatch):
    """Its rasterizer takes memory by the length of edges, and its decoder trusts what strings say."""
    monkeypatch.setattr(coco_masks, "FAR", 0.0)
    assert object_mask([[0, 0, 17, 0, 17, 12]], SIZE).counts is not None
    assert object_mask([[0, 0, 17.1, 0, 17, 12]], SIZE).counts is None
