"""Convert conversations to sequences: tokens, their positions, the positions of what they predict, and targets.

Training writes whole conversations. Generation writes prompts with the same methods and continues with the same kind
of slots, so the two cannot diverge.

Coordinates have three axes (time, row, column). Text has its time on all three axes, which gives ordinary rotary
embeddings. Vision features, codes, location tokens and marked points share one coordinate system: cells of the plan's
grid, offset by the time at which the image begins. So everything at the same place of an image has the same row and
column.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import attrs
import torch
from torch import Tensor

from perceptio.errors import DataError, InputError
from perceptio.interfaces import SpecialTokens, TextTokenizer, TokenBlock, Turn
from perceptio.ops.letters import letters_for
from perceptio.ops.wording import number_of
from perceptio.vocabulary import TokenPlan


class Position(NamedTuple):
    """A position on the image, in cells of the plan's grid from the top and from the left."""

    row: float
    column: float


def cell_center(plan: TokenPlan, cell: int) -> Position:
    """Return the center of a cell of the plan's grid, given its row-major index."""
    row, column = divmod(cell, plan.grid[1])
    return Position(row + 0.5, column + 0.5)


def point_position(plan: TokenPlan, x: float, y: float) -> Position:
    """Return the position of a marked point (x, y) in [0, 1]."""
    return Position(y * plan.grid[0], x * plan.grid[1])


@attrs.frozen
class Slot:
    """One input row: a token and its coordinates.

    Attributes:
        token: The id of the token.
        position: Its position on the image. None for text, which has only a time.
        query_position: The position of what it predicts. None: the position of the token itself.
        advances_time: Whether it is one time unit after the previous slot. Slots of one step share their time.
    """

    token: int
    position: Position | None = None
    query_position: Position | None = None
    advances_time: bool = True


def opening_slots(plan: TokenPlan, block: TokenBlock) -> list[Slot]:
    """Return the slots of the opening marker, one for each code of the first step, which it predicts."""
    return [
        Slot(block.opening, query_position=code_position(plan, block, code), advances_time=code == 0)
        for code in range(block.steps[0])
    ]


def step_slots(plan: TokenPlan, block: TokenBlock, step: int, codes: Sequence[int]) -> list[Slot]:
    """Return the slots of the codes of a step, each at its code's position, with the position of what it predicts.

    Args:
        plan: The token ids.
        block: The ids of the stream.
        step: The index of the step.
        codes: All codes of the block.
    """
    return [
        Slot(
            block.starts[slot.code] + codes[slot.code],
            position=code_position(plan, block, slot.code),
            query_position=None if slot.predicts is None else code_position(plan, block, slot.predicts),
            advances_time=slot.advances_time,
        )
        for slot in block.slots[step]
    ]


def code_position(plan: TokenPlan, block: TokenBlock, code: int) -> Position | None:
    """Return the position of a code of a block; None if it has none."""
    center = block.centers[code]
    return None if center is None else Position(center[0] * plan.grid[0], center[1] * plan.grid[1])


def point_slots(plan: TokenPlan, letter: int, point: tuple[float, float]) -> list[Slot]:
    """Return the slots of a marked point: its letter, then its cell's location token at the position of the point."""
    return _named_cell(plan, letter, plan.cell_of(*point), point_position(plan, *point))


def readout_slots(plan: TokenPlan, letter: int, point: tuple[float, float]) -> list[Slot]:
    """Return the slots before the code or level of a marked point: its letter, then the location token of its cell.

    Before a code, the location token is at the center of the cell, as the code is. From the exact point, which is
    between several centers, a model learns to copy a mixture of codes (measured on the small decoder after 200 steps:
    66% of codes right, 88% from the center). A level is the value at the point, so the point is used there.
    """
    if plan.levels is not None:
        return point_slots(plan, letter, point)
    cell = plan.cell_of(*point)
    return _named_cell(plan, letter, cell, cell_center(plan, cell))


def _named_cell(plan: TokenPlan, letter: int, cell: int, position: Position) -> list[Slot]:
    return [Slot(letter), Slot(plan.locations.start + cell, position=position, query_position=position)]


@attrs.define
class WrittenRows:
    """The rows of the supervised blocks or objects of a stream in a conversation; see `StreamBatch`.

    Attributes:
        rows: For each block or object, the rows that are read.
        slots: For each block or object, the rows that hold its codes or special tokens.
        codes: For each block or object, its codes.
    """

    rows: list[list[int]] = attrs.Factory(list)
    slots: list[list[int]] = attrs.Factory(list)
    codes: list[list[int]] = attrs.Factory(list)

    def add(self, rows: Sequence[int], slots: Sequence[int], codes: Sequence[int]) -> None:
        """Add one block or object."""
        self.rows.append([*rows])
        self.slots.append([*slots])
        self.codes.append([*codes])


class SequenceWriter:
    """Writes one conversation, slot by slot, and records its supervised rows and their targets.

    For every slot, `positions` holds the (time, row, column) of its token, and `query_positions` that of what it
    predicts. `level_rows` and `level_points` hold the rows and the points of levels in context.
    """

    def __init__(self, plan: TokenPlan, text: TextTokenizer) -> None:
        self.plan, self.text = plan, text
        self.ids: list[int] = []
        self.positions: list[tuple[float, float, float]] = []
        self.query_positions: list[tuple[float, float, float]] = []
        self.vision_rows: list[int] = []
        self.text_rows: list[int] = []
        self.text_targets: list[int] = []
        self.level_rows: list[int] = []
        self.level_points: list[tuple[float, float]] = []
        self.streams: dict[str, WrittenRows] = {name: WrittenRows() for name in plan.streams}
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
        """Append text tokens, each the target of the row before it."""
        for token in tokens:
            self.text_rows.append(len(self.ids) - 1)
            self.text_targets.append(token)
            self.write([Slot(token)])

    def write_question(
        self, turn: Turn, centers_M2: Tensor | None = None, location_tokens: bool = True
    ) -> Self:
        """Append the user's side of a turn.

        Args:
            turn: The turn.
            centers_M2: The centers, in [0, 1], of the features of the image that the turn shows. None: no image.
            location_tokens: Whether marked points are written as location tokens.
        """
        template = self.text.template
        self._write_template(template.user)
        if centers_M2 is not None:
            self._write_template(template.before_image)
            self._write_image(centers_M2)
            self._write_template(template.after_image)
        self.write([Slot(token) for token in encoded(self.text, turn.question)])
        if location_tokens:
            for letter, point in zip(self.letters(len(turn.points)), turn.points, strict=True):
                self.write(point_slots(self.plan, letter, point))
        self._write_template(template.assistant)
        return self

    def write_answer(
        self,
        turn: Turn,
        codes: Mapping[str, Sequence[int]],
        block_in_context: bool = False,
        readout_in_context: bool = False,
    ) -> None:
        """Append the assistant's side of a turn, supervised: its streams, its read-out and its text.

        Args:
            turn: The turn.
            codes: The image's codes, 0 <= code < K, of each stream that is written as codes once per image. The codes
                of objects are written as 0 here and filled in later from their targets.
            block_in_context: Whether blocks of codes are in context but excluded from the loss.
            readout_in_context: Whether the codes or levels of marked points are in context but excluded from the
                loss.

        Raises:
            DataError: The image lacks codes of a stream that the turn writes, or the turn lacks levels of its points.
        """
        for name in turn.perceive:
            tokens = self.plan.streams[name]
            for _ in range(len(turn.masks) if tokens.per == "object" else 1):
                if isinstance(tokens, SpecialTokens):
                    self.write_special_tokens(name)
                elif tokens.per == "object":
                    self.write_block(name, [0] * tokens.length)
                else:
                    self.write_block(name, _required(codes, name, turn), supervised=not block_in_context)
        if turn.readout:
            said = self._said_of_points(turn, codes)
            for letter, point, number in zip(self.letters(len(turn.points)), turn.points, said, strict=True):
                self.write_readout(letter, point, number, supervised=not readout_in_context)
        self.supervise([*encoded(self.text, turn.answer), self.text.end_id])
        # The rest of the template's end, after the token that ends an answer, is never generated.
        self.write([Slot(token) for token in self.text.encode_template(self.text.template.end)[1:]])

    def write_special_tokens(self, name: str) -> None:
        """Append the special tokens of a stream once, supervised."""
        tokens = self.plan.streams[name]
        assert isinstance(tokens, SpecialTokens)
        slots = range(len(self.ids), len(self.ids) + len(tokens.ids))
        self.supervise(tokens.ids)
        self.streams[name].add([row - tokens.read_before for row in slots], slots, [])

    def write_block(self, name: str, codes: Sequence[int], supervised: bool = True) -> None:
        """Append a block of codes; if it is supervised, its predictor rows are recorded apart from those of text."""
        block = self.plan.streams[name]
        assert isinstance(block, TokenBlock)
        if len(codes) != block.length:
            raise DataError(
                f"A block of {name} has {number_of(block.length, 'code')}, and {len(codes)} came."
            )
        opening_row, first = len(self.ids) - 1, len(self.ids)
        self.write(opening_slots(self.plan, block))
        slots = len(self.ids)
        for step in range(len(block.steps)):
            self.write(step_slots(self.plan, block, step, codes))
        if supervised:
            held = [slot for step in block.slots for slot in step]
            predictors = [*range(first, slots)]
            predictors += [slots + number for number, slot in enumerate(held) if slot.predicts is not None]
            self.streams[name].add(
                [opening_row, *predictors, len(self.ids) - 1], range(slots, len(self.ids)), codes
            )
        self.write([Slot(block.closing)])

    def write_readout(
        self, letter: int, point: tuple[float, float], number: int, supervised: bool = True
    ) -> None:
        """Append the read-out of one marked point: its letter, its location token, and its code or level."""
        self.write(readout_slots(self.plan, letter, point))
        token = self.plan.said_of_points.start + number
        if supervised:
            self.supervise([token])
            return
        self.write([Slot(token)])
        if self.plan.levels is not None:
            self.level_rows.append(len(self.ids) - 1)
            self.level_points.append(point)

    def _said_of_points(self, turn: Turn, codes: Mapping[str, Sequence[int]]) -> Sequence[int]:
        """Return the level of each marked point of a turn, or its code if there are no levels."""
        if self.plan.levels is None:
            assert self.plan.readout is not None
            written = _required(codes, self.plan.readout, turn)
            return [written[self.plan.cell_of(*point)] for point in turn.points]
        if len(turn.levels) != len(turn.points):
            raise DataError(
                f"The {turn.task} question {turn.question!r} has {number_of(len(turn.points), 'point')} and "
                f"{number_of(len(turn.levels), 'level')}: each point needs one."
            )
        return turn.levels

    def letters(self, count: int) -> list[int]:
        """Return the ids of the first `count` letters, which name marked points.

        Raises:
            InputError: There are more points than letters, or the text tokenizer splits a letter.
        """
        ids = []
        for letter in letters_for(count):
            tokens = self.text.encode(letter)
            if len(tokens) != 1:
                raise InputError(
                    f"The text tokenizer writes the letter {letter} as {len(tokens)} ids; 1 is needed."
                )
            ids += tokens
        return ids

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
        # There may be thousands of features, all with one time, so they are written at once and not as slots.
        lies = [(self.time, self.origin + y * h, self.origin + x * w) for y, x in centers_M2.tolist()]
        self.vision_rows.extend(range(len(self.ids), len(self.ids) + len(lies)))
        self.ids.extend([0] * len(lies))
        self.positions.extend(lies)
        self.query_positions.extend(lies)
        self.time = self.origin + max(h, w)


def encoded(tokenizer: TextTokenizer, text: str) -> Sequence[int]:
    """Return the ids of a text.

    Raises:
        InputError: The text cannot be encoded in UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"The text {text[:60]!r} has bytes or half a surrogate pair that are no character: write it in UTF-8."
        ) from None
    return tokenizer.encode(text)


def _required(codes: Mapping[str, Sequence[int]], name: str, turn: Turn) -> Sequence[int]:
    if name not in codes:
        raise DataError(
            f"The {turn.task} question {turn.question!r} is to be answered from {name}, and its image has none."
        )
    return codes[name]


def stacked_coordinates(rows: Sequence[tuple[float, float, float]], axes: int) -> Tensor:
    """Return the coordinates [A, T] of slots for a backbone with 3 position axes; with 1 axis, their order."""
    if axes == 1:
        return torch.arange(len(rows), dtype=torch.float32)[None]
    return torch.tensor(rows, dtype=torch.float32).T.reshape(3, len(rows))
