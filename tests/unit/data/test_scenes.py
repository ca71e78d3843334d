"""Scenes: the same for a seed, exact in depth, and with questions that have one answer."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptio.data.scenes import SceneSet, Split, words
from perceptio.data.scenes.language import LETTERS, MAX_POINTS
from perceptio.data.scenes.points import MIN_RATIO
from perceptio.data.scenes.scene import scene
from perceptio.data.scenes.world import FARTHEST, NEAREST

SEEDS = st.integers(0, 2**31)


def entry_of(seed, split=Split.TEST):
    return SceneSet(split=split, base=seed, count=1)[0]


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_a_seed_gives_one_scene(seed):
    one, other = entry_of(seed), entry_of(seed)
    np.testing.assert_array_equal(one.image_HW3, other.image_HW3)
    np.testing.assert_array_equal(one.depth.values_HW, other.depth.values_HW)
    assert [turn.question for turn in one.turns] == [turn.question for turn in other.turns]
    assert not np.array_equal(one.image_HW3, entry_of(seed + 1).image_HW3)


@given(bases=st.tuples(st.integers(0, 50), st.integers(0, 50)), number=st.integers(0, 10**6))
def test_splits_never_share_a_seed(bases, number):
    seeds = {split.seed(base, number) % len(Split) for split in Split for base in bases}
    assert len(seeds) == len(Split)
    assert len({split.seed(bases[0], number) for split in Split}) == len(Split)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_depth_is_known_everywhere_and_within_its_range(seed):
    made = entry_of(seed)
    depth_HW = made.depth.values_HW
    assert made.depth.unit == "metres" and np.isfinite(depth_HW).all()
    assert depth_HW.min() >= NEAREST - 1e-3 and depth_HW.max() <= FARTHEST + 1e-3
    assert made.image_HW3.shape == (*depth_HW.shape, 3) and made.image_HW3.dtype == np.uint8


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_the_answer_of_marked_points_is_the_nearest_by_a_margin(seed):
    made = entry_of(seed)
    height, width = made.depth.values_HW.shape
    asked = [turn for turn in made.turns if turn.task == "relative_depth"]
    assert {len(turn.points) for turn in asked} <= {3, 4, 5}
    for turn in asked:
        depths = [made.depth.values_HW[int(y * height), int(x * width)] for x, y in turn.points]
        first, second = np.sort(depths)[:2]
        assert turn.answer == f"({LETTERS[int(np.argmin(depths))]})"
        assert second / first >= MIN_RATIO * 0.999


def meant(expression, seen):
    """The objects that an expression can mean, worked out from the scene independently of how it was written."""
    found = re.search(
        r"the (?:(leftmost|rightmost|largest|smallest) )?(?:(\w+) )?(sphere|box|cylinder|object)\b",
        expression,
    )
    extreme, color, shape = found.groups()
    matching = [
        one
        for one in seen
        if (color in (None, one.thing.color)) and shape in ("object", str(one.thing.shape))
    ]
    if extreme is None:
        return matching
    keys = {
        "leftmost": lambda one: np.nonzero(one.mask)[1].mean(),
        "rightmost": lambda one: -np.nonzero(one.mask)[1].mean(),
        "smallest": lambda one: one.mask.sum(),
        "largest": lambda one: -one.mask.sum(),
    }
    return sorted(matching, key=keys[extreme])[:1]


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_an_expression_means_exactly_the_object_it_segments(seed):
    made, seen = entry_of(seed), scene(Split.TEST.seed(seed, 0), 80).seen
    for turn in made.turns:
        if turn.task != "referring":
            continue
        (mask,) = turn.masks
        objects = meant(turn.question, seen)
        assert len(objects) == 1, turn.question
        np.testing.assert_array_equal(objects[0].mask, mask)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_plain_questions_are_answered_from_the_scene(seed):
    made, seen = entry_of(seed), scene(Split.TEST.seed(seed, 0), 80).seen
    for turn in made.turns:
        color = re.fullmatch(r"What color is the (\w+)\?", turn.question)
        if color:
            assert [one.thing.color for one in seen if str(one.thing.shape) == color.group(1)] == [
                turn.answer
            ]


def test_every_word_of_a_scene_is_in_the_vocabulary():
    known = set(words())
    for number in range(40):
        for turn in entry_of(number, Split.TRAIN).turns:
            for text in (turn.question, turn.answer):
                assert set(re.findall(r"\w+|[^\w\s]", text)) <= known, text
    assert set(LETTERS[:MAX_POINTS]) <= known


def test_objects_float_and_differ_in_size_so_that_height_does_not_tell_depth():
    rows, logs = [], []
    for number in range(80):
        made = entry_of(number)
        for one in scene(Split.TEST.seed(number, 0), 80).seen:
            rows.append(np.nonzero(one.mask)[0].mean())
            logs.append(np.log(made.depth.values_HW[one.mask].mean()))
    assert len(rows) > 200
    assert abs(np.corrcoef(rows, logs)[0, 1]) < 0.5


@pytest.mark.parametrize("settings", [{"count": 0}, {"count": 1, "base": -1}, {"count": 1, "size": 8}])
def test_sets_that_cannot_be_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        SceneSet(split=Split.TRAIN, **settings)
