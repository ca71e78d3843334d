"""Maps of a data folder: what is written comes back when it is asked for, and every rule has its sentence."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from perceptio.data.folder import DatasetInfo, Entry, FolderDataset, MapInfo, write_folder
from perceptio.data.folder.check import check_folder
from perceptio.data.folder.identity import hash_of_data
from perceptio.errors import DataError
from perceptio.interfaces import Sample

HEAT = MapInfo(channels=1, low=-2.0, high=8.0)
FLOW = MapInfo(channels=3, low=-1.0, high=1.0)
INFO = DatasetInfo(maps={"heat": HEAT, "flow": FLOW})


def entry(name="a", **maps):
    return Entry(id=name, image_HW3=np.zeros((8, 12, 3), np.uint8), maps=maps)


def ramp(channels, low, high):
    return np.linspace(low, high, 96 * channels, dtype=np.float32).reshape(8, 12, channels)


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "data", [entry(heat=ramp(1, -2, 8), flow=ramp(3, -1, 1)), entry("b")], info=INFO)
    return tmp_path / "data"


def change_line(folder, **values):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    lines[0].update(values)
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def declare(folder, maps):
    info = {"format": "perceptio-data", "version": 1, "maps": maps}
    (folder / "dataset.json").write_text(json.dumps(info))


def test_what_is_written_comes_back(folder):
    dataset = FolderDataset(folder)
    assert dataset.info == INFO and check_folder(folder).problems == ()
    maps = dataset[0].maps
    assert set(maps) == {"heat", "flow"} and len(maps) == 2 and not dataset[1].maps
    for name, declared in INFO.maps.items():
        written = ramp(declared.channels, declared.low, declared.high)
        step = (declared.high - declared.low) / 255
        assert maps[name].dtype == np.float32
        np.testing.assert_allclose(maps[name], written, atol=step / 2 + 1e-6)
        np.testing.assert_array_equal(dataset.map(0, name), maps[name])
        # The ends of the range are kept exactly.
        assert maps[name].min() == declared.low and maps[name].max() == declared.high
    assert dataset.map(1, "heat") is None and dataset.map(0, "unknown") is None
    assert Image.open(folder / "maps/heat/a.png").mode == "L"
    assert Image.open(folder / "maps/flow/a.png").mode == "RGB"


def test_the_stored_value_stands_for_its_share_of_the_range(folder):
    Image.fromarray(np.full((8, 12), 51, np.uint8)).save(folder / "maps/heat/a.png")
    # 51 / 255 is a fifth of the way from -2 to 8.
    np.testing.assert_allclose(FolderDataset(folder).map(0, "heat"), np.zeros((8, 12, 1)), atol=1e-6)


def test_maps_are_read_when_they_are_asked_for_and_cross_processes(folder):
    sample = pickle.loads(pickle.dumps(FolderDataset(folder)[0].maps))
    before = sample["heat"]
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(folder / "maps/heat/a.png")
    assert before.max() == 8 and sample["heat"].max() == -2
    (folder / "maps/heat/a.png").unlink()
    maps = FolderDataset(folder)[0].maps
    assert "heat" in maps and "other" not in maps
    with pytest.raises(KeyError, match="other"):
        maps["other"]
    with pytest.raises(DataError, match=r"maps/heat/a\.png does not exist"):
        maps["heat"]
    assert Sample(turns=()).maps == {}


def test_unknown_pixels_are_kept_in_an_array(tmp_path):
    flow_HW3 = ramp(3, -1, 1)
    flow_HW3[2:4, 5] = np.nan
    write_folder(tmp_path / "data", [entry(flow=flow_HW3)], info=INFO)
    np.testing.assert_array_equal(FolderDataset(tmp_path / "data").map(0, "flow"), flow_HW3)
    assert [path.name for path in (tmp_path / "data/maps/flow").iterdir()] == ["a.npy"]


@pytest.mark.parametrize("shape", [(8, 12), (8, 12, 1)])
def test_one_channel_need_not_be_an_axis_of_its_own(tmp_path, folder, shape):
    values = np.linspace(-2, 8, 96, dtype=np.float32).reshape(shape)
    np.save(folder / "heat.npy", values)
    change_line(folder, maps={"heat": "heat.npy"})
    np.testing.assert_array_equal(FolderDataset(folder).map(0, "heat"), values.reshape(8, 12, 1))
    write_folder(tmp_path / "again", [entry(heat=values)], info=INFO)
    assert FolderDataset(tmp_path / "again").map(0, "heat").shape == (8, 12, 1)


def test_what_rounding_takes_out_of_the_range_is_clipped(folder):
    values = ramp(1, -2, 8)
    values[0, 0], values[7, 11] = -2.005, 8.005
    np.save(folder / "heat.npy", values)
    change_line(folder, maps={"heat": "heat.npy"})
    heat = FolderDataset(folder).map(0, "heat")
    assert heat.min() == -2 and heat.max() == 8


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], '"maps" is not an object of names, each with "channels", "low" and "high"'),
        ({"a b": {"channels": 1, "low": 0, "high": 1}}, "map name 'a b' is not 1 to 80 letters, digits"),
        ({"../a": {"channels": 1, "low": 0, "high": 1}}, "map name '../a' is not 1 to 80 letters"),
        ({"depth": {"channels": 1, "low": 0, "high": 1}}, "map name 'depth' is taken: depth, image, masks"),
        ({"masks": {"channels": 1, "low": 0, "high": 1}}, "map name 'masks' is taken"),
        ({"image": {"channels": 3, "low": 0, "high": 1}}, "map name 'image' is taken"),
        ({"objects": {"channels": 1, "low": 0, "high": 1}}, "map name 'objects' is taken"),
        ({"heat": 1}, "map 'heat': it is not an object with"),
        ({"heat": {"channels": 1, "low": 0}}, "map 'heat': \"high\" is missing"),
        (
            {"heat": {"channels": 1, "low": 0, "high": 1, "hihg": 2}},
            "'hihg' is not a known key; did you mean 'high'",
        ),
        ({"heat": {"channels": 2, "low": 0, "high": 1}}, "map 'heat': channels 2 is neither 1 nor 3"),
        ({"heat": {"channels": True, "low": 0, "high": 1}}, "channels True is neither 1 nor 3"),
        (
            {"heat": {"channels": 1, "low": "0", "high": 1}},
            "low '0' is not a number from -1e\\+12 to 1e\\+12",
        ),
        ({"heat": {"channels": 1, "low": 0, "high": 1e300}}, "high 1e\\+300 is not a number"),
        ({"heat": {"channels": 1, "low": 1, "high": 1}}, "low 1 is not less than high 1"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(folder, maps, message):
    declare(folder, maps)
    with pytest.raises(DataError, match=message):
        FolderDataset(folder)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (["a.png"], "maps ['a.png'] is not an object of names, each with a path"),
        (
            {"heta": "maps/heat/a.png"},
            "map 'heta' is not declared in dataset.json, which declares flow, heat.",
        ),
        ({"heat": "../a.png"}, "map 'heat' '../a.png' must be a path inside the folder"),
        ({"heat": 3}, "map 'heat' 3 is not a path"),
    ],
)
def test_a_line_that_names_no_map_of_the_folder_is_refused(folder, maps, message):
    change_line(folder, maps=maps)
    (problem,) = check_folder(folder).problems
    assert message in str(problem) and problem.line == 1
    with pytest.raises(DataError, match="lists all problems"):
        FolderDataset(folder)


def test_a_folder_that_declares_no_map_says_so(folder):
    declare(folder, {})
    messages = [problem.message for problem in check_folder(folder).problems]
    assert messages == [
        f"map '{name}' is not declared in dataset.json, which declares none." for name in ("heat", "flow")
    ]


def saved(values, name="a.npy"):
    def save(folder):
        path = folder / "maps" / name
        if name.endswith("npy"):
            np.save(path, values)
        else:
            Image.fromarray(values).save(path)
        return f"maps/{name}"

    return save


def linked(folder):
    (folder.parent / "outside.png").touch()
    (folder / "maps/a.png").symlink_to(folder.parent / "outside.png")
    return "maps/a.png"


HALF_KNOWN = ramp(3, -1, 1)
HALF_KNOWN[0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("heat", lambda folder: "maps/none.png", "does not exist"),
        ("heat", linked, "leads out of"),
        (
            "heat",
            saved(np.zeros((8, 12, 3), np.uint8), "a.png"),
            "PNG of mode RGB: write heat as 8-bit gray PNG",
        ),
        ("flow", saved(np.zeros((8, 12), np.uint8), "a.png"), "PNG of mode L: write flow as 8-bit RGB PNG"),
        ("heat", saved(np.zeros((8, 12), np.uint16), "a.png"), "of mode I;16: write heat as 8-bit gray PNG"),
        ("heat", saved(np.zeros((8, 12), np.uint8), "a.jpg"), "JPEG of mode L: write heat as 8-bit gray PNG"),
        ("heat", saved(np.zeros((12, 8), np.uint8), "a.png"), "is 8x12 pixels, and its picture 12x8 pixels"),
        ("heat", saved(np.zeros((12, 8), np.float32)), "is 8x12 pixels, and its picture 12x8 pixels"),
        ("heat", saved(ramp(3, 0, 1)), "float32 [8, 12, 3]: write float32 [height, width, 1]"),
        ("flow", saved(ramp(1, 0, 1)[..., 0]), "float32 [8, 12]: write float32 [height, width, 3]"),
        ("heat", saved(np.zeros((8, 12), int)), "int64 [8, 12]: write float32"),
        ("heat", saved(ramp(1, -2, 9)), "has values from -2 to 9, and dataset.json says -2 to 8"),
        ("heat", saved(ramp(1, -2, 8) - 0.1), "has values from -2.1 to 7.9, and dataset.json says -2 to 8"),
        ("heat", saved(np.full((8, 12), np.inf, np.float32)), "has values from inf to inf"),
        ("heat", saved(np.full((8, 12), np.nan, np.float32)), "has no known pixel: leave it out"),
        ("flow", saved(HALF_KNOWN), "has pixels of which some channels are NaN: write NaN in all of them"),
    ],
)
def test_a_map_that_does_not_fit_is_said_of_its_file(folder, name, make, message):
    file = make(folder)
    change_line(folder, maps={name: file})
    problems = [one for one in check_folder(folder).problems if "named by no sample" not in one.message]
    assert [(one.file, one.line) for one in problems] == [(file, 1)]
    assert message in problems[0].message and not problems[0].message.startswith("/")


def test_files_that_no_sample_names_are_found(folder):
    change_line(folder, maps={"heat": "maps/heat/a.png"})
    Image.new("L", (12, 8)).save(folder / "maps" / "stray.png")
    strays = [one.file for one in check_folder(folder).problems if "named by no sample" in one.message]
    assert strays == ["maps/flow/a.png", "maps/stray.png"]


def test_other_bytes_in_a_map_are_other_data(folder):
    before = hash_of_data(FolderDataset(folder))
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(folder / "maps/heat/a.png")
    assert hash_of_data(FolderDataset(folder)) != before


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (
            {"other": ramp(1, 0, 1)},
            "Entry 'a' has a map 'other', and the folder is to hold flow, heat: give write_folder an `info`",
        ),
        ({"heat": ramp(3, 0, 1)}, r"has a map 'heat' of float32 \[8, 12, 3\]: give .* of \[8, 12, 1\]"),
        ({"flow": ramp(1, 0, 1)[..., 0]}, r"has a map 'flow' of float32 \[8, 12\]: give .* of \[8, 12, 3\]"),
        ({"heat": np.zeros((8, 12), np.uint8)}, "has a map 'heat' of uint8 .* floating-point numbers"),
        (
            {"heat": ramp(1, 0, 9)},
            "Entry 'a' cannot be written: its map 'heat' has values from 0 to 9, and .* says -2 to 8",
        ),
        ({"flow": HALF_KNOWN}, "some channels are NaN"),
        ({"heat": np.full((8, 12), np.nan)}, "its map 'heat' has no known pixel"),
    ],
)
def test_what_the_reader_would_refuse_is_not_written(tmp_path, maps, message):
    with pytest.raises(DataError, match=message):
        write_folder(tmp_path / "data", [entry(**maps)], info=INFO)
    assert not list(tmp_path.iterdir())


def test_several_processes_write_maps_and_a_folder_without_any_says_so(tmp_path):
    write_folder(
        tmp_path / "data", [entry(f"a{i}", heat=ramp(1, 0, 8)) for i in range(40)], info=INFO, workers=2
    )
    assert all(sample.maps["heat"].max() == 8 for sample in FolderDataset(tmp_path / "data"))
    with pytest.raises(DataError, match="has a map 'heat', and the folder is to hold no maps: give"):
        write_folder(tmp_path / "other", [entry(heat=ramp(1, 0, 1))])


def test_a_declaration_is_checked_before_anything_is_written(tmp_path):
    info = DatasetInfo(maps={"heat": MapInfo(channels=2, low=0.0, high=1.0)})
    with pytest.raises(DataError, match=r"as of its dataset\.json: map 'heat': channels 2 is neither"):
        write_folder(tmp_path / "data", [entry()], info=info)
