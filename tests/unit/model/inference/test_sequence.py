"""A conversation written by hand: 2x2 depth cells, a text tokenizer of one id per character."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from perceptio.errors import DataError, InputError
from perceptio.interfaces import (
    ChatTemplate,
    CodeGroup,
    Codes,
    DepthConvention,
    DepthSpec,
    SegmentationSpec,
    StreamSpec,
    TokenBlock,
    TokenSpan,
    Turn,
)
from perceptio.model.inference.sequence import SequenceWriter
from perceptio.vocabulary import TokenPlan


class Characters:
    """One id per character; ids 1, 2, 3 are the user's, the assistant's and the end token."""

    template = ChatTemplate(user="<u>", assistant="<a>", end="<e>")
    end_id = 3

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def encode_template(self, text: str) -> list[int]:
        return {"<u>": [1], "<a>": [2], "<e>": [3]}[text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(token) for token in ids)

    def save(self, folder: Path) -> None:
        raise AssertionError


DEPTH = DepthSpec(codebook_size=8, grid=(2, 2), image_size=(4, 4), convention=DepthConvention())
SEGMENTATION = SegmentationSpec(prompt_dim=4, image_size=(8, 8), mask_size=(4, 4))
MASK = np.ones((4, 4), dtype=bool)


CODES = {"depth": [5, 6, 7, 4]}


def plan(per_step: int = 1, read_before: Sequence[str] = ()) -> TokenPlan:
    streams = {"segmentation": (SEGMENTATION.stream, 1), "depth": (DEPTH.stream, per_step)}
    return TokenPlan.of(200, streams, read_before=read_before)


def written(turn: Turn, per_step: int = 1, read_before: Sequence[str] = ()) -> SequenceWriter:
    writer = SequenceWriter(plan(per_step, read_before), Characters())
    centers_M2 = torch.tensor([[0.5, 0.25], [0.5, 0.75]])
    writer.write_question(turn, centers_M2)
    writer.write_answer(turn, CODES)
    return writer


def test_the_paper_s_order_in_tokens_and_targets() -> None:
    turn = Turn(question="q", answer="x", task="referring", masks=(MASK,), perceive=("segmentation", "depth"))

    writer = written(turn)

    seg, start, end, code = 200, 201, 202, 203
    codes = [code + 5, code + 6, code + 7, code + 4]
    assert writer.ids == [1, 0, 0, ord("q"), 2, seg, start, *codes, end, ord("x"), 3]
    assert writer.vision_rows == [1, 2]
    assert list(zip(writer.text_rows, writer.text_targets, strict=True)) == [
        (4, seg),
        (11, ord("x")),
        (12, 3),
    ]
    depth, masks = writer.streams["depth"], writer.streams["segmentation"]
    assert (depth.rows, depth.codes, depth.slots) == ([[5, 6, 7, 8, 9, 10]], [[5, 6, 7, 4]], [[7, 8, 9, 10]])
    assert masks.rows == masks.slots == [[5]]


def test_the_state_before_the_special_token_can_prompt_instead() -> None:
    turn = Turn(question="q", answer="x", task="referring", masks=(MASK, MASK), perceive=("segmentation",))

    assert written(turn).streams["segmentation"].rows == [[5], [6]]
    before = written(turn, read_before=("segmentation",)).streams["segmentation"]
    assert (before.rows, before.slots) == ([[4], [5]], [[5], [6]])


def test_two_codes_a_step_move_predictions_two_cells_ahead() -> None:
    turn = Turn(question="q", answer="x", task="depth_map", perceive=("depth",))

    writer = written(turn, per_step=2)

    start, end, code = 201, 202, 203
    assert writer.ids[5:] == [start, start, code + 5, code + 6, code + 7, code + 4, end, ord("x"), 3]
    # Opening marker from the row before the block, codes from the markers and the first codes, closing from the last.
    assert writer.streams["depth"].rows == [[4, 5, 6, 7, 8, 10]]


@pytest.mark.parametrize("per_step", [1, 2, 4])
def test_what_predicts_a_cell_has_its_position_and_its_code_lies_there(per_step: int) -> None:
    turn = Turn(question="q", answer="x", task="depth_map", perceive=("depth",))

    writer = written(turn, per_step)

    origin = writer.positions[1][0]
    cells = [(origin + row + 0.5, origin + column + 0.5) for row in (0, 1) for column in (0, 1)]
    first_code = 5 + per_step
    assert [position[1:] for position in writer.positions[first_code : first_code + 4]] == cells
    assert [writer.query_positions[row][1:] for row in writer.streams["depth"].rows[0][1:-1]] == cells
    times = [position[0] for position in writer.positions[first_code : first_code + 4]]
    assert len(set(times)) == 4 // per_step


def test_patches_points_and_codes_share_a_frame_and_text_has_none() -> None:
    turn = Turn(
        question="q", answer="(A)", task="relative_depth", points=((0.25, 0.75), (0.75, 0.25)), readout=True
    )

    writer = written(turn)

    origin = writer.positions[1][0]
    cells = plan().locations.start
    assert writer.positions[1] == (origin, origin + 1.0, origin + 0.5)
    assert writer.ids[4:8] == [ord("A"), cells + 2, ord("B"), cells + 1]
    assert writer.positions[5][1:] == (origin + 1.5, origin + 0.5)
    # The read-out names each point again; the code of its cell is the target, letter and cell are given.
    code = 203
    assert writer.ids[9:15] == [ord("A"), cells + 2, code + 7, ord("B"), cells + 1, code + 6]
    assert list(zip(writer.text_rows, writer.text_targets, strict=True))[:2] == [
        (10, code + 7),
        (13, code + 6),
    ]
    assert writer.query_positions[10][1:] == (origin + 1.5, origin + 0.5)
    for row in (0, 3, 4, 8, 9, 11):
        assert len(set(writer.positions[row])) == 1
        assert writer.query_positions[row] == writer.positions[row]


def test_text_after_an_image_runs_on_past_its_frame() -> None:
    writer = written(Turn(question="q", answer="x", task="attribute"))

    times = [position[0] for position in writer.positions]
    assert times == sorted(times)
    assert times[3] == times[1] + 2 + 1


def test_a_readout_may_be_in_context_and_excluded_from_the_loss() -> None:
    turn = Turn(question="q", answer="(A)", task="relative_depth", points=((0.1, 0.1),), readout=True)
    writer = SequenceWriter(plan(), Characters()).write_question(turn)

    writer.write_answer(turn, CODES, readout_in_context=True)

    assert plan().readout_block.codebooks[0].start + 5 in writer.ids
    assert writer.text_targets == [ord("("), ord("A"), ord(")"), 3]


def test_a_readout_lies_at_the_center_of_its_cell_and_a_mark_where_it_was_made() -> None:
    turn = Turn(question="q", answer="(A)", task="relative_depth", points=((0.1, 0.4),), readout=True)
    writer = SequenceWriter(plan(), Characters()).write_question(turn)
    asked = len(writer.ids)
    writer.write_answer(turn, CODES)

    cell = plan().locations.start
    marked, read = (row for row, token in enumerate(writer.ids) if token == cell)
    assert marked < asked <= read
    assert writer.positions[marked][1:] == pytest.approx((0.8, 0.2))
    assert writer.positions[read][1:] == writer.query_positions[read][1:] == pytest.approx((0.5, 0.5))


def test_a_block_in_context_is_not_supervised_and_what_is_read_out_of_it_is() -> None:
    turn = Turn(
        question="q",
        answer="(A)",
        task="relative_depth",
        points=((0.1, 0.1),),
        perceive=("depth",),
        readout=True,
    )
    writer = SequenceWriter(plan(), Characters()).write_question(turn)

    writer.write_answer(turn, CODES, block_in_context=True)

    assert not writer.streams["depth"].rows
    assert plan().readout_block.closing in writer.ids
    assert writer.text_targets == [
        plan().readout_block.codebooks[0].start + 5,
        ord("("),
        ord("A"),
        ord(")"),
        3,
    ]


def test_depth_that_is_not_there_is_refused() -> None:
    turn = Turn(question="how far?", answer="x", task="relative_depth", perceive=("depth",))
    writer = SequenceWriter(plan(), Characters()).write_question(turn)

    with pytest.raises(DataError, match=r"relative_depth question 'how far\?' is to be answered from depth"):
        writer.write_answer(turn, {})
    with pytest.raises(DataError, match="A block of depth has 4 codes, and 3 came"):
        writer.write_answer(turn, {"depth": [1, 2, 3]})


def test_more_points_than_letters_are_refused() -> None:
    with pytest.raises(InputError, match="27 points were marked"):
        SequenceWriter(plan(), Characters()).letters(27)


@pytest.mark.parametrize("text", ["caf\udce9 ?", "\ud800"])
def test_a_text_that_is_not_utf_8_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="that are no character: write it in UTF-8"):
        written(Turn(task="chat", question=text, answer=""))
    with pytest.raises(InputError, match="that are no character: write it in UTF-8"):
        written(Turn(task="chat", question="?", answer=text))


def coarse_to_fine() -> TokenPlan:
    """One code for the image, then one for each of 2x2 places; two codes without a place for each object."""
    scales = Codes(codebook_sizes=(8,), groups=(CodeGroup.on_grid((1, 1)), CodeGroup.on_grid((2, 2))))
    shapes = Codes(codebook_sizes=(4, 16), groups=(CodeGroup(length=1), CodeGroup(length=1, codebook=1)))
    return TokenPlan.of(
        200,
        {
            "scales": (StreamSpec(written=scales, target="depth"), "group"),
            "shape": (StreamSpec(written=shapes, per="object", target="masks"), 1),
        },
    )


def test_a_larger_group_is_predicted_from_the_codes_that_lie_nearest() -> None:
    turn = Turn(question="q", answer="x", task="any", perceive=("scales",))
    writer = SequenceWriter(coarse_to_fine(), Characters()).write_question(turn)

    writer.write_answer(turn, {"scales": [7, 1, 2, 3, 4]})

    start, end, code = 200, 201, 202
    # The coarse code stands once for each of the four that follow it; they come together, and then the marker.
    codes = [code + 7] * 4 + [code + 1, code + 2, code + 3, code + 4]
    assert writer.ids[3:] == [start, *codes, end, ord("x"), 3]
    scales = writer.streams["scales"]
    assert scales.rows == [[2, 3, 4, 5, 6, 7, 11]]
    assert scales.slots == [list(range(4, 12))]
    assert coarse_to_fine().streams["scales"].slot_codes == (0, 0, 0, 0, 1, 2, 3, 4)
    times = [position[0] for position in writer.positions[3:13]]
    assert [time - times[0] for time in times] == [0, 1, 1, 1, 1, 2, 2, 2, 2, 3]
    asked = [writer.query_positions[row][1:] for row in (4, 5, 6, 7)]
    assert asked == [(5 / 2, 5 / 2), (5 / 2, 15 / 2), (15 / 2, 5 / 2), (15 / 2, 15 / 2)]


def test_codes_of_objects_are_written_once_for_each_from_two_codebooks() -> None:
    turn = Turn(question="q", answer="x", task="referring", masks=(MASK, MASK), perceive=("shape",))
    plan = coarse_to_fine()
    writer = SequenceWriter(plan, Characters()).write_question(turn)

    writer.write_answer(turn, {})

    block = plan.streams["shape"]
    first, second = (span.start for span in block.codebooks)
    assert second == first + 4 and block.starts == (first, second)
    one = [block.opening, first, second, block.closing]
    assert writer.ids[3:-2] == [*one, *one]
    assert writer.streams["shape"].rows == [[2, 3, 4, 5], [6, 7, 8, 9]]


@pytest.mark.parametrize("steps", [(4, 2, 1), (1, 2, 4), (2, 3), (3, 3, 1, 5)])
def test_steps_of_any_size_predict_every_code_once_and_hold_every_code(steps) -> None:
    groups = tuple(CodeGroup(length=size) for size in steps)
    block = TokenBlock(
        opening=0, closing=1, codebooks=(TokenSpan(start=2, size=9),), groups=groups, steps=steps
    )

    predicted = [slot.predicts for step in block.slots for slot in step if slot.predicts is not None]
    assert predicted == list(range(steps[0], sum(steps)))
    assert set(block.slot_codes) == set(range(sum(steps)))
    assert all(sum(slot.advances_time for slot in step) == 1 for step in block.slots)


def with_levels() -> TokenPlan:
    return TokenPlan.of(200, {"depth": (DEPTH.stream, 1)}, levels=4)


LEVELED = Turn(
    question="q",
    answer="(A)",
    task="relative_depth",
    points=((0.25, 0.75), (0.75, 0.25)),
    readout=True,
    levels=(3, 1),
)


@pytest.mark.parametrize("looked_up", [True, False])
def test_a_level_of_each_point_stands_before_the_answer_supervised_where_the_model_writes_it(
    looked_up: bool,
) -> None:
    writer = SequenceWriter(with_levels(), Characters()).write_question(LEVELED)

    writer.write_answer(LEVELED, {}, readout_in_context=looked_up)

    place, level = 210, 214  # After 200 characters, two markers and eight codes.
    a, b, answer = ord("A"), ord("B"), [ord("("), ord("A"), ord(")"), 3]
    marked = [a, place + 2, b, place + 1]
    said = [a, place + 2, level + 3, b, place + 1, level + 1]
    assert writer.ids == [1, ord("q"), *marked, 2, *said, *answer]
    assert writer.text_targets == ([] if looked_up else [level + 3, level + 1]) + answer
    assert writer.text_rows[-4:] == [12, 13, 14, 15]
    assert writer.level_rows == ([9, 12] if looked_up else [])
    assert writer.level_points == (list(LEVELED.points) if looked_up else [])
    # A level is the value at the point itself, and no cell's.
    assert writer.positions[8][1:] == writer.positions[3][1:] == (1.5, 0.5)


def test_points_without_levels_are_refused() -> None:
    writer = SequenceWriter(with_levels(), Characters()).write_question(LEVELED)
    unknown = Turn(question="q", answer="(A)", task="points", points=LEVELED.points, readout=True)
    with pytest.raises(
        DataError, match="The points question 'q' has 2 points and 0 levels: each point needs"
    ):
        writer.write_answer(unknown, CODES)
