"""How a stream of perception is written: as discrete codes between markers, or as special tokens; and their ids.

Shapes: L codes of one block, P width of a row.
"""

from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate, groupby
from math import dist
from typing import Literal, Self

import attrs
from torch import Tensor

Per = Literal["image", "object"]
"""How often a stream is written: once for an image, or once for each object that an answer is about."""


@attrs.frozen(kw_only=True)
class CodeGroup:
    """Codes that belong together: those of one codebook, or of one scale.

    Attributes:
        length: How many.
        codebook: The number of the codebook they are from.
        centers: Where each lies on its image, as (row, column) in [0, 1]; empty where they have no place.
    """

    length: int
    codebook: int = 0
    centers: tuple[tuple[float, float], ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.centers and len(self.centers) != self.length:
            raise ValueError(f"a group of {self.length} codes has {len(self.centers)} centers.")

    @classmethod
    def on_grid(cls, grid: tuple[int, int], codebook: int = 0) -> Self:
        """One code for every place of a grid of (rows, columns), row by row."""
        rows, columns = grid
        centers = tuple(((r + 0.5) / rows, (c + 0.5) / columns) for r in range(rows) for c in range(columns))
        return cls(length=len(centers), codebook=codebook, centers=centers)


@attrs.frozen(kw_only=True)
class Codes:
    """Written as discrete codes between an opening and a closing marker.

    Attributes:
        codebook_sizes: How many codes each codebook has, K.
        groups: The codes in the order in which they are written. A group of a larger scale follows a smaller one.
        grid: Rows and columns, where the codes are those of one grid, row by row: then marked points can be named by
            its places, and the code at a point be read out.
    """

    codebook_sizes: tuple[int, ...]
    groups: tuple[CodeGroup, ...]
    grid: tuple[int, int] | None = None

    def __attrs_post_init__(self) -> None:
        if not self.groups or {group.codebook for group in self.groups} != set(
            range(len(self.codebook_sizes))
        ):
            raise ValueError(
                f"{len(self.codebook_sizes)} codebooks are given, and the groups are of "
                f"{sorted({group.codebook for group in self.groups})}: each needs a group."
            )

    @classmethod
    def on_grid(cls, codebook_size: int, grid: tuple[int, int]) -> Self:
        """One code of one codebook for every place of a grid."""
        return cls(codebook_sizes=(codebook_size,), groups=(CodeGroup.on_grid(grid),), grid=grid)

    @property
    def length(self) -> int:
        """How many codes are written in all, L."""
        return sum(group.length for group in self.groups)


@attrs.frozen(kw_only=True)
class Continuous:
    """Written as special tokens, whose hidden states a head turns into rows that a tokenizer reads.

    Attributes:
        tokens: A name for each token, in order; a name that comes twice is one id.
        width: Of a row, P.
        rows: How many rows the tokenizer reads; None: one for each token.
    """

    tokens: tuple[str, ...]
    width: int
    rows: int | None = None

    @property
    def num_rows(self) -> int:
        """How many rows the tokenizer reads, m."""
        return len(self.tokens) if self.rows is None else self.rows


@attrs.frozen(kw_only=True)
class StreamSpec:
    """What the model around it must know of a stream.

    Attributes:
        written: As codes or as special tokens.
        per: Whether it is written once per image or once per object.
        target: What it is learned from: `"depth"`, `"masks"` (that of an object), `"objects"` (the masks of all
            objects of an image), `"image"` (the picture itself, also for features of a teacher), or else the name of
            a map of the data folder.
        image_size: Height and width of the pictures that decoding needs features of; None: it needs none.
        frozen: Whether the weights of its tokenizer never train with the model, as those of a teacher, which then
            stays in eval mode; those of codes never do, as the codes are the model's targets.
        shows_masks: Whether what it shows of each object is a boolean mask [H, W] at the size of its picture:
            referring expressions are measured by it.
        point_values: Whether its tokenizer can say a number of any point of what is decoded, as `values_at`.
    """

    written: Codes | Continuous
    per: Per = "image"
    target: str
    image_size: tuple[int, int] | None = None
    frozen: bool = False
    shows_masks: bool = False
    point_values: bool = False

    @property
    def trains(self) -> bool:
        """Whether the weights of its tokenizer may train with the model."""
        return isinstance(self.written, Continuous) and not self.frozen


@attrs.frozen(kw_only=True)
class TokenSpan:
    """A contiguous run of ids."""

    start: int
    size: int

    @property
    def slice(self) -> slice:
        """For `logits[..., span.slice]`."""
        return slice(self.start, self.start + self.size)

    def contains(self, ids: Tensor) -> Tensor:
        """Which ids lie in the span."""
        return (ids >= self.start) & (ids < self.start + self.size)


@attrs.frozen(kw_only=True)
class CodeSlot:
    """One input slot of a block: the code that it holds, and the code that it predicts.

    Attributes:
        code: Which of the L codes it holds.
        predicts: Which one it predicts; None: none, or the closing marker if it is the last.
        advances_time: Whether it comes one unit of time after the slot before; slots of one step share their time.
    """

    code: int
    predicts: int | None
    advances_time: bool


@attrs.frozen(kw_only=True, slots=False)
class TokenBlock:
    """The ids of a discrete stream: a run of codes that the language model writes between markers.

    The codes of a step are predicted at once. The opening marker takes an input slot for each code of the first step,
    and the last code's slot predicts the closing marker: there are L + 2 predictions, however codes are grouped.
    Where a step is larger than the one before, codes take several slots, each for the codes that lie nearest to it,
    as VAR (arXiv 2404.02905) stretches a scale to the next.

    Attributes:
        opening: The marker before the codes.
        closing: The marker after them.
        codebooks: The ids of each codebook's codes.
        groups: The codes in the order in which they are written.
        steps: How many codes each step predicts.
        grid: See `Codes`.
        per: See `StreamSpec`.
    """

    opening: int
    closing: int
    codebooks: tuple[TokenSpan, ...]
    groups: tuple[CodeGroup, ...]
    steps: tuple[int, ...]
    grid: tuple[int, int] | None = None
    per: Per = "image"

    def __attrs_post_init__(self) -> None:
        if sum(self.steps) != self.length or min(self.steps) < 1:
            raise ValueError(f"steps of {self.steps} codes do not make a block of {self.length} codes.")

    @cached_property
    def length(self) -> int:
        """How many codes are between the markers, L."""
        return sum(group.length for group in self.groups)

    @property
    def opens_with(self) -> int:
        """The id that begins it, by which a model chooses to write it."""
        return self.opening

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """For each of the L codes the id of code 0 of its codebook."""
        return tuple(
            self.codebooks[group.codebook].start for group in self.groups for _ in range(group.length)
        )

    @cached_property
    def runs(self) -> tuple[tuple[slice, TokenSpan], ...]:
        """The places of the codes, 0 to L, in runs of one codebook, each with the ids that may stand there."""
        runs, first = [], 0
        for codebook, groups in groupby(self.groups, lambda group: group.codebook):
            end = first + sum(group.length for group in groups)
            runs.append((slice(first, end), self.codebooks[codebook]))
            first = end
        return tuple(runs)

    @cached_property
    def slots(self) -> tuple[tuple[CodeSlot, ...], ...]:
        """The input slots of the codes, step by step."""
        ends = list(accumulate(self.steps))
        steps = [range(end - size, end) for size, end in zip(self.steps, ends, strict=True)]
        return tuple(
            self._slots_of(step, following)
            for step, following in zip(steps, [*steps[1:], range(0)], strict=True)
        )

    @cached_property
    def slot_codes(self) -> tuple[int, ...]:
        """Which code each input slot holds, Y of them."""
        return tuple(slot.code for step in self.slots for slot in step)

    @cached_property
    def centers(self) -> tuple[tuple[float, float] | None, ...]:
        """Where each code lies on its image, as (row, column) in [0, 1]; None where it has no place."""
        return tuple(center for group in self.groups for center in (group.centers or (None,) * group.length))

    def _slots_of(self, step: range, following: range) -> tuple[CodeSlot, ...]:
        size, ahead = len(step), len(following)
        if ahead <= size:
            pairs = zip(step, [*[None] * (size - ahead), *following], strict=True)
        else:
            nearest = [self._nearest(code, step, number, ahead) for number, code in enumerate(following)]
            unused = [code for code in step if code not in nearest]
            pairs = zip([*unused, *nearest], [*[None] * len(unused), *following], strict=True)
        return tuple(
            CodeSlot(code=code, predicts=predicted, advances_time=number == 0)
            for number, (code, predicted) in enumerate(pairs)
        )

    def _nearest(self, code: int, step: range, number: int, count: int) -> int:
        """Which code of a step lies nearest to one of the next, or where they have no places has the same share."""
        center = self.centers[code]
        if center is None or any(self.centers[one] is None for one in step):
            return step[number * len(step) // count]
        return min(step, key=lambda one: dist(center, self.centers[one] or center))

    def spans_of_steps(self) -> Iterator[tuple[slice, TokenSpan]]:
        """The places of each step's codes, with the ids that may stand there."""
        first = 0
        for size in self.steps:
            span = next(span for places, span in self.runs if places.start <= first < places.stop)
            yield slice(first, first + size), span
            first += size


@attrs.frozen(kw_only=True)
class SpecialTokens:
    """The ids of a continuous stream.

    Attributes:
        ids: Of its tokens, in order.
        per: See `StreamSpec`.
        read_before: Whether each is read at the token before it, and not at itself.
    """

    ids: tuple[int, ...]
    per: Per = "image"
    read_before: bool = False

    @property
    def opens_with(self) -> int:
        """The id that begins it, by which a model chooses to write it."""
        return self.ids[0]


StreamTokens = TokenBlock | SpecialTokens
"""The ids of a stream."""


def steps_of(codes: Codes, codes_per_step: int | Literal["group"]) -> tuple[int, ...]:
    """How many codes each step writes: a number that divides every group, or each group at once.

    Raises:
        ValueError: The number does not divide a group.
    """
    if codes_per_step == "group":
        return tuple(group.length for group in codes.groups)
    if codes_per_step < 1 or any(group.length % codes_per_step for group in codes.groups):
        sizes = ", ".join(str(group.length) for group in codes.groups)
        raise ValueError(
            f'{codes_per_step} codes per step do not divide groups of {sizes} codes; choose a divisor, or "group".'
        )
    return tuple(codes_per_step for group in codes.groups for _ in range(group.length // codes_per_step))
