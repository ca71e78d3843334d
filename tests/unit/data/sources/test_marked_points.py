"""HardBLINK's layout, built small, and new questions on the depth of a data folder."""

import shutil
from pathlib import Path

import attrs
import numpy as np
import pytest
from layouts import CIRCLED, write_hardblink, write_lines
from PIL import Image

from perceptio.data.folder import DatasetInfo, Entry, FolderDataset, write_folder
from perceptio.data.folder.check import check_folder
from perceptio.data.point_questions import PointRules, inverse_depth_levels
from perceptio.data.sources.depth_pairs import DepthPairsSource
from perceptio.data.sources.importing import import_source
from perceptio.data.sources.marked_points import MarkedPointsSource
from perceptio.errors import DataError, RecipeError
from perceptio.interfaces import LETTERS, DepthMap, LeftOut

REAL = Path(__file__).parents[5] / "shared/data"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"there is no {REAL}, which holds some real pictures")
STEEP = PointRules(clearance=0)
"""On a small picture of a floor the rows of pixels differ much."""


def test_published_questions_say_that_the_picture_shows_the_points(tmp_path):
    folder = write_hardblink(tmp_path / "hardblink")
    report = import_source(MarkedPointsSource(folder=str(folder)), tmp_path / "out")
    assert report.turns == {"drawn_points": 6} and not check_folder(tmp_path / "out").problems
    dataset = FolderDataset(tmp_path / "out")
    assert [record.id for record in dataset.records][:3] == [
        "3pointscenter-0",
        "3pointscenter-1",
        "4pointscenter-0",
    ]
    (turn,) = dataset[3].turns
    assert (turn.task, turn.question, turn.answer, turn.points) == ("drawn_points", CIRCLED, "(C)", ())
    four = list(MarkedPointsSource(folder=str(folder), points=(4,)).samples())
    assert [one.image for one in four] == [f"marked:images/blink4pointscenter/{n}.png" for n in range(2)]


def test_sets_settings_and_answers_that_are_wrong_are_said(tmp_path):
    folder = write_hardblink(tmp_path / "hardblink", points=(3, 5))
    with pytest.raises(
        DataError,
        match="hardblink has no set of 4 points, and has 3, 5: say so with --set 'points=\\[3, 5\\]'",
    ):
        list(MarkedPointsSource(folder=str(folder)).samples())
    with pytest.raises(DataError, match="is no data folder, for which per_image says nothing: leave it out"):
        MarkedPointsSource(folder=str(folder), per_image=2).info()
    with pytest.raises(DataError, match="is no data folder, for which rules says nothing"):
        MarkedPointsSource(folder=str(folder), rules=PointRules(min_levels=5)).info()
    with pytest.raises(DataError, match="There is no folder .*none"):
        MarkedPointsSource(folder=str(tmp_path / "none")).info()
    with pytest.raises(RecipeError, match="per_image is 0; it must be at least 1"):
        MarkedPointsSource(folder=str(folder), per_image=0)
    with pytest.raises(RecipeError, match="points is empty; it must name a number of points"):
        MarkedPointsSource(folder=str(folder), points=())
    (folder / "images/blink5pointscenter/0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"blink5pointscenter/0\.png is no image that can be read"):
        list(MarkedPointsSource(folder=str(folder), points=(5,)).samples())
    answers = folder / "answers/blink_3pointscenter_answers.jsonl"
    for rows, why in (
        ([{"question_id": 0, "text": "(A)"}], "2 questions and .* 1 answer, "),
        ([{"question_id": n, "text": "(A)"} for n in range(3)], "2 questions and .* 3 answers"),
        (
            [{"question_id": n, "text": "(D)"} for n in range(2)],
            r"'\(D\)', which is not the letter of one of 3 points",
        ),
    ):
        write_lines(answers, rows)
        with pytest.raises(DataError, match=why):
            list(MarkedPointsSource(folder=str(folder), points=(3,)).samples())


@pytest.fixture
def with_depth(tmp_path):
    """A data folder of a floor, the same with nothing to ask, and a picture without depth."""
    floor_HW = np.repeat(1 / np.linspace(1 / 9, 1, 96, dtype=np.float32)[:, None], 64, 1)
    image_HW3 = np.zeros((96, 64, 3), np.uint8)
    entries = [
        Entry(id="floor", image_HW3=image_HW3, depth=DepthMap(values_HW=floor_HW, unit="metres")),
        Entry(
            id="wall", image_HW3=image_HW3, depth=DepthMap(values_HW=np.full_like(floor_HW, 2), unit="metres")
        ),
        Entry(id="none", image_HW3=image_HW3),
    ]
    write_folder(tmp_path / "depth", entries, info=DatasetInfo(depth_unit="metres", depth_scale=0.0002))
    return tmp_path / "depth"


def test_questions_are_made_on_the_depth_of_a_data_folder(with_depth, tmp_path):
    source = MarkedPointsSource(folder=str(with_depth), per_image=2, rules=STEEP, seed=3)
    floor, *left_out = source.samples()
    assert left_out == [
        LeftOut(what="a question of wall", why="no 5 points of its depth obey the rules"),
        LeftOut(what="a question of wall", why="no 3 points of its depth obey the rules"),
        LeftOut(what="none", why="it has no depth"),
    ]
    assert [len(turn.points) for turn in floor.turns] == [3, 4]
    import_source(source, tmp_path / "out")
    again = import_source(source, tmp_path / "again", pictures="link")
    assert again.turns == {"relative_depth": 2}
    for folder in (tmp_path / "out", tmp_path / "again"):
        assert not check_folder(folder).problems
        (sample,) = FolderDataset(folder)
        levels_HW = inverse_depth_levels(sample.depth)
        for turn in sample.turns:
            levels = [levels_HW[int(y * 96), int(x * 64)] for x, y in turn.points]
            assert (
                turn.answer == f"({LETTERS[int(np.argmax(levels))]})" and np.diff(sorted(levels)).min() >= 19
            )
    assert next(iter(attrs.evolve(source, seed=4).samples())).turns != floor.turns


def test_roots_of_the_data_folder_stay_where_they_are(with_depth, tmp_path):
    (tmp_path / "pictures").mkdir()
    shutil.move(with_depth / "images/floor.png", tmp_path / "pictures/floor.png")
    pairs = DepthPairsSource(
        folder=str(tmp_path / "pictures"),
        depth_folder=str(with_depth / "depth"),
        images="{key}.png",
        depth="{key}.png",
        scale=0.0002,
        unpaired="leave_out",
    )
    import_source(pairs, tmp_path / "pairs")
    import_source(MarkedPointsSource(folder=str(tmp_path / "pairs"), rules=STEEP), tmp_path / "out")
    assert not check_folder(tmp_path / "out").problems
    assert FolderDataset(tmp_path / "out").records[0].image == "marked-pictures:floor.png"


def test_pictures_of_the_data_folder_that_are_gone_or_of_another_size_are_said(with_depth):
    picture = with_depth / "images/floor.png"
    source = MarkedPointsSource(folder=str(with_depth), rules=STEEP)
    Image.new("RGB", (64, 48)).save(picture)
    with pytest.raises(
        DataError, match=r"floor\.png is 64x48 pixels, and the depth of floor is 64x96 pixels"
    ):
        list(source.samples())
    picture.unlink()
    with pytest.raises(DataError, match=r"floor\.png does not exist: check the path"):
        list(source.samples())


def test_a_data_folder_without_depth_has_nothing_to_ask_about(tmp_path):
    write_folder(
        tmp_path / "plain", [Entry(id="a", image_HW3=np.zeros((9, 9, 3), np.uint8))], info=DatasetInfo()
    )
    with pytest.raises(DataError, match="plain has no depth, of which questions could be made"):
        MarkedPointsSource(folder=str(tmp_path / "plain")).info()
    with pytest.raises(
        DataError, match="plain is a data folder, for which points says nothing: leave it out"
    ):
        MarkedPointsSource(folder=str(tmp_path / "plain"), points=(3,)).info()


@real
def test_real_depth_is_imported_and_asked_about(tmp_path):
    kitchen = DepthPairsSource(folder=str(REAL / "sevenscenes"), layout="7-scenes")
    report = import_source(kitchen, tmp_path / "kitchen")
    assert report.samples == 25 and list(report.notes.values()) == [25] and not report.left_out
    frame = FolderDataset(tmp_path / "kitchen").depth(0).values_HW
    stored_HW = np.asarray(Image.open(REAL / "sevenscenes/frame-000000.depth.png")).astype(np.float32)
    unknown_HW = (stored_HW == 0) | (stored_HW == 65535)
    np.testing.assert_allclose(frame, np.where(unknown_HW, np.nan, stored_HW * 0.001), rtol=1e-6)
    asked = import_source(MarkedPointsSource(folder=str(tmp_path / "kitchen")), tmp_path / "asked")
    assert asked.turns["relative_depth"] >= 20
    rooms = import_source(DepthPairsSource(folder=str(REAL / "nyu"), layout="nyu"), tmp_path / "rooms")
    assert rooms.samples == 2 and not rooms.notes and not check_folder(tmp_path / "rooms").problems
