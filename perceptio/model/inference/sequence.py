"""How a conversation becomes a sequence: tokens, their positions, the positions of what they predict, and targets.

Training writes whole conversations, generation writes prompts with the same methods and continues with slots of the
same form, so that the two cannot drift apart.

Coordinates have three axes (time, row, column). Text has time on all three, which is ordinary rotary embedding.
Vision features, depth codes, location tokens and marked points have positions in one frame: in cells of the depth
grid, from the time at which the image begins. What lies at the same place of an image has the same coordinates.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import attrs
import torch
from torch import Tensor

from perceptio.errors import DataError, InputError
from perceptio.interfaces import TextTokenizer, Turn
from perceptio.recipe import MaskPrompt
from perceptio.vocabulary import LETTERS, TokenPlan, too_many_points


class Position(NamedTuple):
    """A position on the image, in cells of the depth grid from its top and from its left."""

    row: float
    column: float


def cell_center(plan: TokenPlan, cell: int) -> Position:
    """The center of a cell of the depth grid, row-major."""
    row, column = divmod(cell, plan.grid[1])
    return Position(row + 0.5, column + 0.5)


def point_position(plan: TokenPlan, x: float, y: float) -> Position:
    """The position of a marked point (x, y) in [0, 1]."""
    return Position(y * plan.grid[0], x * plan.grid[1])


@attrs.frozen
class Slot:
    """One row of input: a token and its coordinates.

    Attributes:
        token: Its id.
        position: Where it lies on the image; None for text, which has no position but its time.
        query_position: Where what it predicts lies; None: where it lies itself.
        advances_time: Whether it comes one unit of time after the slot before; slots of one step share their time.
    """

    token: int
    position: Position | None = None
    query_position: Position | None = None
    advances_time: bool = True


def opening_slots(plan: TokenPlan) -> list[Slot]:
    """The slots of the opening marker: one for each code of the first step, which it predicts."""
    block = plan.depth
    assert block is not None
    return [
        Slot(block.opening, query_position=cell_center(plan, code), advances_time=code == 0)
        for code in range(block.per_step)
    ]


def code_slots(plan: TokenPlan, codes: Sequence[int], first: int = 0) -> list[Slot]:
    """The slots of depth codes `first` and following: each lies at its cell and predicts `per_step` cells ahead."""
    block = plan.depth
    assert block is not None
    slots = []
    for index, code in enumerate(codes, start=first):
        ahead = index + block.per_step
        slots.append(
            Slot(
                block.codes.start + code,
                position=cell_center(plan, index),
                query_position=cell_center(plan, ahead) if ahead < block.length else None,
                advances_time=index % block.per_step == 0,
            )
        )
    return slots


def point_slots(plan: TokenPlan, letter: int, point: tuple[float, float]) -> list[Slot]:
    """A marked point: its letter, then its cell's location token, at the position of the point itself."""
    return _named_cell(plan, letter, plan.cell_of(*point), point_position(plan, *point))


def readout_slots(plan: TokenPlan, letter: int, point: tuple[float, float]) -> list[Slot]:
    """What precedes the code of a marked point in a read-out: its letter, then the location token of its cell.

    Depth codes lie at the centers of cells. From the exact point, which lies between several, a model learns to copy
    a mixture of them (measured on the small decoder after 200 steps: 66% of codes right, from the center 88%).
    """
    cell = plan.cell_of(*point)
    return _named_cell(plan, letter, cell, cell_center(plan, cell))


def _named_cell(plan: TokenPlan, letter: int, cell: int, position: Position) -> list[Slot]:
    return [Slot(letter), Slot(plan.locations.start + cell, position=position, query_position=position)]


class SequenceWriter:
    """Writes one conversation, slot by slot, and keeps the rows and targets of its supervision.

    The coordinates of every slot are those of its token (`positions`) and of what it predicts (`query_positions`),
    each a list of (time, row, column).
    """

    def __init__(self, plan: TokenPlan, text: TextTokenizer) -> None:
        self.plan, self.text = plan, text
        self.ids: list[int] = []
        self.positions: list[tuple[float, float, float]] = []
        self.query_positions: list[tuple[float, float, float]] = []
        self.vision_rows: list[int] = []
        self.text_rows: list[int] = []
        self.text_targets: list[int] = []
        self.block_rows: list[list[int]] = []
        self.block_codes: list[list[int]] = []
        self.prompt_rows: list[list[int]] = []
        self.time = -1.0
        self.origin = 0.0
        self._write_template(text.template.start)

    def write(self, slots: Sequence[Slot]) -> None:
        """Append input slots."""
        for slot in slots:
            self.time += slot.advances_time
            self.ids.append(slot.token)
            self.positions.append(self._coordinates(slot.position))
            self.query_positions.append(self._coordinates(slot.query_position or slot.position))

    def supervise(self, tokens: Sequence[int]) -> None:
        """Append text tokens, each a target of the row before it."""
        for token in tokens:
            self.text_rows.append(len(self.ids) - 1)
            self.text_targets.append(token)
            self.write([Slot(token)])

    def write_question(
        self, turn: Turn, centers_M2: Tensor | None = None, location_tokens: bool = True
    ) -> Self:
        """Append the user's side of a turn; `centers_M2` in [0, 1] are those of its image's features."""
        template = self.text.template
        self._write_template(template.user)
        if centers_M2 is not None:
            self._write_template(template.before_image)
            self._write_image(centers_M2)
            self._write_template(template.after_image)
        self.write([Slot(token) for token in self.text.encode(_utf8(turn.question))])
        if location_tokens:
            for letter, point in zip(self.letters(len(turn.points)), turn.points, strict=True):
                self.write(point_slots(self.plan, letter, point))
        self._write_template(template.assistant)
        return self

    def write_answer(
        self,
        turn: Turn,
        codes: Sequence[int] | None,
        mask_codes: Sequence[Sequence[int]] = (),
        mask_prompt: MaskPrompt = "seg_token",
        block_in_context: bool = False,
        readout_in_context: bool = False,
    ) -> None:
        """Append the assistant's side of a turn, supervised: what it perceives, reads out and says.

        Args:
            turn: The turn.
            codes: Depth codes of the image, row-major, 0 <= code < K; None where it has no depth.
            mask_codes: Codes of each object, for a segmentation tokenizer that writes them.
            mask_prompt: Which hidden state prompts a mask; see `Recipe`.
            block_in_context: Whether the depth block is in context, excluded from the loss.
            readout_in_context: Whether the codes that are read out are in context, excluded from the loss.

        Raises:
            DataError: The turn wants depth and the image has none.
        """
        for stream in turn.perceive:
            if stream == "segmentation":
                self.write_objects(len(turn.masks), mask_codes, mask_prompt)
            else:
                self.write_block(_required(codes, turn), supervised=not block_in_context)
        if turn.readout:
            for letter, point in zip(self.letters(len(turn.points)), turn.points, strict=True):
                code = _required(codes, turn)[self.plan.cell_of(*point)]
                self.write_readout(letter, point, code, supervised=not readout_in_context)
        self.supervise([*self.text.encode(_utf8(turn.answer)), self.text.end_id])
        # What a template has after the token that ends an answer is never generated.
        self.write([Slot(token) for token in self.text.encode_template(self.text.template.end)[1:]])

    def write_objects(
        self, count: int, mask_codes: Sequence[Sequence[int]] = (), mask_prompt: MaskPrompt = "seg_token"
    ) -> None:
        """Append the special tokens of so many objects, supervised, and their mask codes where there are any."""
        for index in range(count):
            first = len(self.ids)
            self.supervise(self.plan.segmentation)
            shift = 0 if mask_prompt == "seg_token" else -1
            self.prompt_rows.append([row + shift for row in range(first, len(self.ids))])
            if self.plan.mask_codes is not None:
                self.supervise([self.plan.mask_codes.start + code for code in mask_codes[index]])

    def write_block(self, codes: Sequence[int], supervised: bool = True) -> None:
        """Append a depth block; where it is supervised, its predictor rows are kept apart from those of text."""
        block = self.plan.depth
        assert block is not None
        if len(codes) != block.length:
            raise DataError(f"A depth block has {block.length} codes and {len(codes)} were given.")
        opening_row = len(self.ids) - 1
        first = len(self.ids)
        self.write(opening_slots(self.plan))
        self.write(code_slots(self.plan, codes))
        if supervised:
            self.block_rows.append([opening_row, *range(first, first + block.length), len(self.ids) - 1])
            self.block_codes.append(list(codes))
        self.write([Slot(block.closing)])

    def write_readout(
        self, letter: int, point: tuple[float, float], code: int, supervised: bool = True
    ) -> None:
        """Append what is read out for one marked point: its letter, its location token and its depth code."""
        block = self.plan.depth
        assert block is not None
        self.write(readout_slots(self.plan, letter, point))
        token = block.codes.start + code
        if supervised:
            self.supervise([token])
        else:
            self.write([Slot(token)])

    def letters(self, count: int) -> list[int]:
        """The ids of the first letters, with which marked points are named.

        Raises:
            InputError: More points than letters, or a text tokenizer that splits a letter.
        """
        if count > len(LETTERS):
            raise InputError(too_many_points(count))
        ids = [self.text.encode(letter) for letter in LETTERS[:count]]
        for letter, tokens in zip(LETTERS, ids, strict=False):
            if len(tokens) != 1:
                raise InputError(
                    f"The text tokenizer writes the letter {letter} as {len(tokens)} ids; 1 is needed."
                )
        return [tokens[0] for tokens in ids]

    def _coordinates(self, position: Position | None) -> tuple[float, float, float]:
        if position is None:
            return (self.time, self.time, self.time)
        return (self.time, self.origin + position.row, self.origin + position.column)

    def _write_template(self, text: str) -> None:
        self.write([Slot(token) for token in self.text.encode_template(text)] if text else [])

    def _write_image(self, centers_M2: Tensor) -> None:
        self.time += 1
        self.origin = self.time
        h, w = self.plan.grid
        # Thousands of features, all at one time: written at once, and not as slots.
        lies = [(self.time, self.origin + y * h, self.origin + x * w) for y, x in centers_M2.tolist()]
        self.vision_rows.extend(range(len(self.ids), len(self.ids) + len(lies)))
        self.ids.extend([0] * len(lies))
        self.positions.extend(lies)
        self.query_positions.extend(lies)
        self.time = self.origin + max(h, w)


def _utf8(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"The text {text[:60]!r} has bytes or half a surrogate pair that are no character: write it in UTF-8."
        ) from None
    return text


def _required(codes: Sequence[int] | None, turn: Turn) -> Sequence[int]:
    if codes is None:
        raise DataError(
            f"The {turn.task} question {turn.question!r} is to be answered from depth, and its image has none."
        )
    return codes


def stacked_coordinates(rows: Sequence[tuple[float, float, float]], axes: int) -> Tensor:
    """Coordinates [A, T] of slots for a backbone with 3 position axes, or with 1: the slots' order."""
    if axes == 1:
        return torch.arange(len(rows), dtype=torch.float32)[None]
    return torch.tensor(rows, dtype=torch.float32).T.reshape(3, len(rows))
