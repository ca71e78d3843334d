from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.interfaces import (
    CodeGroup,
    Codes,
    Continuous,
    SpecialTokens,
    StreamSpec,
    TokenBlock,
    TokenSpan,
)
from perceptio.vocabulary import GRID, TokenPlan, steps_in_words

GRID_CODES = StreamSpec(written=Codes.on_grid(8, (2, 3)), target="heights")
OBJECTS = StreamSpec(written=Continuous(tokens=("[OBJ]",), width=4), per="object", target="masks")
TWO_SCALES = StreamSpec(
    written=Codes(
        codebook_sizes=(4, 8),
        groups=(CodeGroup.on_grid((1, 1)), CodeGroup.on_grid((2, 2), codebook=1)),
    ),
    target="heights",
)


def test_ids_follow_the_text_vocabulary_in_the_order_of_the_streams() -> None:
    plan = TokenPlan.of(100, {"objects": (OBJECTS, 1), "heights": (GRID_CODES, 3)})

    assert plan.streams["objects"] == SpecialTokens(ids=(100,), per="object")
    block = plan.readout_block
    assert plan.readout == "heights" and block is plan.streams["heights"]
    assert (block.opening, block.closing, block.codebooks[0].start) == (101, 102, 103)
    assert (block.length, block.steps, steps_in_words(block)) == (6, (3, 3), "3 a step")
    assert (plan.locations.start, plan.locations.size) == (111, 6)
    assert plan.size == 117
    assert [plan.name_of(token) for token in (99, 100, 101, 103, 110, 111)] == [
        None,
        "[OBJ]",
        "<heights_start>",
        "<heights_0>",
        "<heights_7>",
        "<loc_0>",
    ]


def test_codebooks_have_ids_of_their_own_and_a_group_may_be_a_step() -> None:
    plan = TokenPlan.of(0, {"heights": (TWO_SCALES, "group")})
    block = plan.streams["heights"]
    assert isinstance(block, TokenBlock)
    assert (block.length, block.steps, steps_in_words(block)) == (5, (1, 4), "in steps of 1, 4")
    assert block.starts == (2, 6, 6, 6, 6)
    assert [plan.name_of(token) for token in (0, 2, 5, 6, 13)] == [
        "<heights_start>",
        "<heights_0_0>",
        "<heights_0_3>",
        "<heights_1_0>",
        "<heights_1_7>",
    ]
    assert plan.readout is None and plan.grid == GRID


def test_a_name_that_comes_twice_is_one_id() -> None:
    written = Continuous(tokens=("<pad>", "<a>", "<pad>"), width=4)
    plan = TokenPlan.of(5, {"a": (StreamSpec(written=written, target="image"), 1)})
    assert plan.streams["a"] == SpecialTokens(ids=(5, 6, 5))


def test_without_perception_only_locations_are_added() -> None:
    plan = TokenPlan.of(10, {})

    assert not plan.streams and plan.readout is None
    assert plan.size == 10 + GRID[0] * GRID[1]


def test_points_are_named_in_the_grid_of_the_named_stream() -> None:
    finer = StreamSpec(written=Codes.on_grid(8, (4, 4)), target="normals")
    streams = {"heights": (GRID_CODES, 1), "normals": (finer, 1)}
    assert TokenPlan.of(0, streams).grid == (2, 3)
    plan = TokenPlan.of(0, streams, readout="normals")
    assert plan.grid == (4, 4) and plan.locations.size == 16
    with pytest.raises(ValueError, match="the stream 'objects' has no grid of codes in which points could"):
        TokenPlan.of(0, streams | {"objects": (OBJECTS, 1)}, readout="objects")


SPECS = st.one_of(
    st.builds(
        lambda size, rows, columns, per: StreamSpec(
            written=Codes.on_grid(size, (rows, columns)), per=per, target="masks"
        ),
        st.integers(1, 300),
        st.integers(1, 4),
        st.integers(1, 4),
        st.sampled_from(["image", "object"]),
    ),
    st.builds(
        lambda count: StreamSpec(
            written=Continuous(tokens=tuple(f"<t{i}>" for i in range(count)), width=4), target="image"
        ),
        st.integers(1, 4),
    ),
)


@given(base=st.integers(0, 200_000), specs=st.lists(SPECS, max_size=4))
def test_spans_are_adjacent_and_cover_what_was_added(base: int, specs: list[StreamSpec]) -> None:
    plan = TokenPlan.of(base, {f"s{number}": (spec, 1) for number, spec in enumerate(specs)})

    spans = [span for _, span in plan.names]
    assert spans[0].start == base and spans[-1] == plan.locations
    assert all(one.start + one.size == other.start for one, other in pairwise(spans))
    assert spans[-1].start + spans[-1].size == plan.size


@pytest.mark.parametrize(
    ("x", "y", "cell"), [(0.0, 0.0, 0), (0.99, 0.0, 2), (0.0, 0.5, 3), (1.0, 1.0, 5), (0.34, 0.49, 1)]
)
def test_a_point_lies_in_one_cell_edges_included(x: float, y: float, cell: int) -> None:
    assert TokenPlan.of(0, {"heights": (GRID_CODES, 1)}).cell_of(x, y) == cell


def test_levels_come_last_and_take_the_place_of_codes_in_what_is_said_of_points() -> None:
    streams = {"heights": (GRID_CODES, 1)}
    plain, plan = TokenPlan.of(100, streams), TokenPlan.of(100, streams, levels=4)
    assert plain.levels is None and plain.said_of_points == plain.readout_block.codebooks[0]
    assert plan.levels == plan.said_of_points == TokenSpan(start=plain.size, size=4)
    assert plan.size == plain.size + 4 and plan.locations == plain.locations
    assert [plan.name_of(plain.size + level) for level in (-1, 0, 3, 4)] == [
        "<loc_5>",
        "<level_0>",
        "<level_3>",
        None,
    ]
