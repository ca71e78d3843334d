import pytest
from hypothesis import given
from hypothesis import strategies as st

from perceptio.interfaces import DepthConvention, DepthSpec, MaskCodes, SegmentationSpec
from perceptio.vocabulary import TokenPlan

DEPTH = DepthSpec(codebook_size=8, grid=(2, 3), image_size=(4, 6), convention=DepthConvention())
SEGMENTATION = SegmentationSpec(prompt_dim=4, image_size=(8, 8), mask_size=(4, 4))


def test_ids_follow_the_text_vocabulary_in_order() -> None:
    plan = TokenPlan.of(100, DEPTH, SEGMENTATION, codes_per_step=3)

    assert plan.segmentation == (100,)
    assert plan.depth is not None
    assert (plan.depth.opening, plan.depth.closing, plan.depth.codes.start) == (101, 102, 103)
    assert (plan.depth.length, plan.depth.per_step) == (6, 3)
    assert (plan.locations.start, plan.locations.size) == (111, 6)
    assert plan.size == 117
    assert [plan.name_of(token) for token in (99, 100, 101, 103, 110, 111)] == [
        None,
        "[SEG]",
        "<depth_start>",
        "<depth_0>",
        "<depth_7>",
        "<loc_0>",
    ]


def test_without_perception_only_cells_are_added() -> None:
    plan = TokenPlan.of(10, None, None, grid=(4, 5))

    assert plan.depth is None
    assert plan.segmentation == ()
    assert plan.size == 10 + 20


@given(
    base=st.integers(0, 200_000),
    tokens=st.integers(1, 4),
    codes=st.none() | st.builds(MaskCodes, codebook_size=st.integers(1, 50), length=st.integers(1, 8)),
    size=st.integers(1, 300),
)
def test_spans_are_adjacent_and_cover_what_was_added(
    base: int, tokens: int, codes: MaskCodes | None, size: int
) -> None:
    names = tuple(f"[SEG{i}]" for i in range(tokens))
    segmentation = SegmentationSpec(
        special_tokens=names, prompt_dim=4, image_size=(8, 8), mask_size=(4, 4), codes=codes
    )
    depth = DepthSpec(codebook_size=size, grid=(2, 2), image_size=(4, 4), convention=DepthConvention())

    plan = TokenPlan.of(base, depth, segmentation)

    next_id = base
    for _, span in plan.spans():
        assert span.start == next_id
        next_id += span.size
    assert next_id == plan.size


@pytest.mark.parametrize(
    ("x", "y", "cell"), [(0.0, 0.0, 0), (0.99, 0.0, 2), (0.0, 0.5, 3), (1.0, 1.0, 5), (0.34, 0.49, 1)]
)
def test_a_point_lies_in_one_cell_edges_included(x: float, y: float, cell: int) -> None:
    assert TokenPlan.of(0, DEPTH, None).cell_of(x, y) == cell
