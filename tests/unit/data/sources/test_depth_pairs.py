"""Published layouts with depth, built small: what a stored number means, and what stays where it is."""

import numpy as np
import pytest
from PIL import Image

from perceptio.data.point_questions import PointRules
from perceptio.data.sources.depth_pairs import LAYOUTS, REWRITTEN, DepthPairsSource
from perceptio.errors import DataError, RecipeError
from perceptio.interfaces import DepthMap, LeftOut

SIZE = (12, 16)
STORED_HW = np.arange(1000, 1000 + SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE)


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (9, 9, 9)).save(path)


def depth_map(path, values_HW):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values_HW)
    else:
        Image.fromarray(values_HW).save(path)


def with_codes(*codes):
    stored_HW = STORED_HW.copy()
    stored_HW[0, : len(codes)] = codes
    return stored_HW


PUBLISHED = {
    "nyu": ("bath/rgb_00001.jpg", "bath/sync_depth_00001.png", with_codes(0)),
    "kitti": (
        "2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png",
        "train/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png",
        with_codes(0),
    ),
    "kitti-selection": (
        "image/2011_09_26_drive_0002_sync_image_0000000005_image_02.png",
        "groundtruth_depth/2011_09_26_drive_0002_sync_groundtruth_depth_0000000005_image_02.png",
        with_codes(0),
    ),
    "diode": ("indoors/s/a.png", "indoors/s/a_depth.npy", STORED_HW.astype(np.float32)[..., None] / 1000),
    "7-scenes": (
        "chess/seq-01/frame-000000.color.png",
        "chess/seq-01/frame-000000.depth.png",
        with_codes(0, 65535),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_found_and_its_numbers_become_metres(tmp_path, layout):
    image, depth, stored = PUBLISHED[layout]
    picture(tmp_path / image)
    depth_map(tmp_path / depth, stored)
    if layout == "diode":
        valid_HW = np.ones(SIZE)
        valid_HW[0, :2] = 0
        depth_map(tmp_path / "indoors/s/a_depth_mask.npy", valid_HW)
    if layout == "kitti":  # A raw drive has frames without depth.
        picture(tmp_path / image.replace("05.png", "00.png"))
    source = DepthPairsSource(folder=str(tmp_path), layout=layout)
    *left_out, sample = source.samples()
    assert [one.what for one in left_out] == (
        [image.replace("05.png", "00.png")] if layout == "kitti" else []
    )
    assert (
        sample.image == f"pictures:{image}" and sample.id == image.rpartition(".")[0] and sample.turns == ()
    )
    info = source.info()
    assert info.depth_unit == "metres" and info.roots["pictures"] == str(tmp_path)
    if layout in ("nyu", "kitti", "kitti-selection"):
        assert sample.depth == f"depth:{depth}" and sample.notes == ()
        assert info.depth_scale == (0.001 if layout == "nyu" else 0.00390625)
    else:
        assert sample.notes == (REWRITTEN,)
        expected_HW = STORED_HW.astype(np.float32) / 1000
        expected_HW[0, :2] = np.nan
        np.testing.assert_allclose(sample.depth.values_HW, expected_HW, rtol=1e-6)


def free(folder, **settings):
    given = {"images": "{key}.jpg", "depth": "{key}.png", "scale": 0.001, **settings}
    return DepthPairsSource(folder=str(folder), **given)


def test_free_patterns_in_two_folders_and_what_is_far_is_unknown(tmp_path):
    picture(tmp_path / "rgb" / "a.jpg")
    depth_map(tmp_path / "d" / "a.png", STORED_HW)
    kept, cut = (
        next(iter(free(tmp_path / "rgb", depth_folder=str(tmp_path / "d"), farthest=farthest).samples()))
        for farthest in (None, 1.1)
    )
    assert kept.depth == "depth:a.png"
    assert isinstance(cut.depth, DepthMap) and np.nanmax(cut.depth.values_HW) <= 1.1
    assert np.isnan(cut.depth.values_HW).sum() == (STORED_HW > 1100).sum()


def test_float_maps_stay_where_nan_alone_says_unknown(tmp_path):
    picture(tmp_path / "a.jpg")
    depth_map(tmp_path / "a.npy", np.where(STORED_HW > 1100, np.nan, STORED_HW).astype(np.float32))
    stays = next(iter(free(tmp_path, depth="{key}.npy", scale=1, unknown=()).samples()))
    assert stays.depth == "depth:a.npy"
    scaled = next(iter(free(tmp_path, depth="{key}.npy", scale=0.001, unknown=(1000,)).samples()))
    assert np.nanmin(scaled.depth.values_HW) == np.float32(1.001)


def test_eight_bit_disparity_is_written_anew(tmp_path):
    picture(tmp_path / "a.jpg")
    depth_map(tmp_path / "a.png", (STORED_HW % 256).astype(np.uint8))
    sample = next(iter(free(tmp_path, unit="disparity", scale=1.0, unknown=()).samples()))
    assert sample.depth.unit == "disparity" and sample.depth.values_HW.max() == 255


def test_questions_are_made_where_they_are_asked_for(tmp_path):
    picture(tmp_path / "a.jpg", (96, 64))
    ramp_HW = np.repeat(1000 / np.linspace(1 / 9, 1, 96)[:, None], 64, 1).astype(np.uint16)
    depth_map(tmp_path / "a.png", ramp_HW)
    rules = PointRules(counts=(2, 3), clearance=0)
    (sample,) = free(tmp_path, questions=3, rules=rules).samples()
    assert sample.depth == "depth:a.png" and [len(turn.points) for turn in sample.turns] == [2, 3, 2]
    assert list(free(tmp_path, questions=3, rules=rules).samples()) == [sample]
    assert next(iter(free(tmp_path, questions=3, rules=rules, seed=1).samples())).turns != sample.turns
    given = list(free(tmp_path, questions=1, rules=PointRules(min_levels=200)).samples())
    assert isinstance(given[0], LeftOut) and given[0].why == "no 3 points of its depth obey the rules"
    assert given[1].turns == ()


def test_depth_that_does_not_fit_is_refused_or_left_out(tmp_path):
    picture(tmp_path / "a.jpg")
    depth_map(tmp_path / "a.png", STORED_HW[:6])
    with pytest.raises(
        DataError, match=r"a\.jpg is 16x12 pixels, and its depth .*a\.png is 16x6 pixels: download both"
    ):
        list(free(tmp_path).samples())
    depth_map(tmp_path / "a.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png is PNG of mode RGB: depth is a gray PNG, or NPY"):
        list(free(tmp_path).samples())
    depth_map(tmp_path / "a.png", np.full(SIZE, 65535, np.uint16))
    (left_out,) = free(tmp_path, unknown=(0, 65535)).samples()
    assert left_out == LeftOut(what="a", why="its depth has no known pixel")
    depth_map(tmp_path / "a.png", np.zeros(SIZE, np.uint16))  # Depth that would stay where it is.
    assert list(free(tmp_path).samples()) == [left_out]
    depth_map(tmp_path / "a.png", STORED_HW)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.png cannot be read to its end"):
        list(free(tmp_path).samples())
    depth_map(tmp_path / "a.png", np.where(STORED_HW > 1100, 0, STORED_HW).astype(np.uint16))
    (near,) = free(tmp_path, unknown=(), unit="disparity").samples()  # A data folder would read 0 as unknown.
    assert isinstance(near.depth, DepthMap) and np.nanmin(near.depth.values_HW) == 0
    depth_map(tmp_path / "a.npy", np.zeros((*SIZE, 2), np.float32))
    with pytest.raises(DataError, match=r"a\.npy holds float32 \[12, 16, 2\]: depth is \[height, width\] of"):
        list(free(tmp_path, depth="{key}.npy").samples())
    depth_map(tmp_path / "a.npy", -np.ones(SIZE, np.float32))
    with pytest.raises(DataError, match=r"a\.npy has depths from -1 to -1 metres"):
        list(free(tmp_path, depth="{key}.npy", scale=1.0).samples())
    depth_map(tmp_path / "a.npy", np.ones(SIZE, np.float32))
    depth_map(tmp_path / "a_mask.npy", np.ones((2, 2), np.float32))
    with pytest.raises(DataError, match=r"There are .* of mask"):  # "{key}.npy" matches the mask, too.
        list(free(tmp_path, depth="{key}.npy", mask="{key}_mask.npy").samples())
    (tmp_path / "a_mask.npy").rename(tmp_path / "a.mask")
    depth_map(tmp_path / "m" / "a.npy", np.ones((2, 2), np.float32))
    with pytest.raises(DataError, match=r"m/a\.npy is 2x2 pixels, and its depth .*a\.npy 16x12 pixels"):
        (tmp_path / "d").mkdir()
        (tmp_path / "a.npy").rename(tmp_path / "d" / "a.npy")
        list(free(tmp_path, depth="d/{key}.npy", mask="m/{key}.npy").samples())
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.png is no image that can be read: save it as 16-bit gray PNG"):
        list(free(tmp_path).samples())
    (tmp_path / "a.jpg").write_bytes(b"")
    depth_map(tmp_path / "a.png", STORED_HW)
    with pytest.raises(DataError, match=r"a\.jpg is empty"):
        list(free(tmp_path).samples())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, r"images and depth and scale must be set where no layout is: one of nyu, kitti"),
        ({"layout": "nyu", "scale": 0.0}, "scale is 0.0; it must be above 0"),
        ({"layout": "nyu", "farthest": -1.0}, "farthest is -1.0; it must be above 0"),
        ({"layout": "nyu", "farthest": 1.0, "unit": "disparity"}, "of depth in metres"),
        ({"layout": "nyu", "questions": -1}, "questions is -1; it must not be below 0"),
        ({"layout": "nyu", "unknown": (0, float("nan"))}, "unknown has NaN, which is unknown in any case"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, why):
    with pytest.raises(RecipeError, match=why):
        DepthPairsSource(folder="any", **settings)
