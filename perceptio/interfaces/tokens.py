"""How a perception stream is written, as discrete codes between markers or as special tokens, and its token ids.

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
"""How often a stream is written: once per image, or once for each object that an answer is about."""


@attrs.frozen(kw_only=True)
class CodeGroup:
    """Codes that belong together, such as those of one codebook or of one scale.

    Attributes:
        length: The number of codes.
        codebook: The index of their codebook.
        centers: The position of each code on its image, as (row, column) in [0, 1]; empty if codes have no position.
    """

    length: int
    codebook: int = 0
    centers: tuple[tuple[float, float], ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.centers and len(self.centers) != self.length:
            raise ValueError(f"a group of {self.length} codes has {len(self.centers)} centers.")

    @classmethod
    def on_grid(cls, grid: tuple[int, int], codebook: int = 0) -> Self:
        """Return a group with one code for each cell of a grid of (rows, columns), row by row."""
        rows, columns = grid
        centers = tuple(((r + 0.5) / rows, (c + 0.5) / columns) for r in range(rows) for c in range(columns))
        return cls(length=len(centers), codebook=codebook, centers=centers)


@attrs.frozen(kw_only=True)
class Codes:
    """How a stream of discrete codes is written: between an opening and a closing marker.

    Attributes:
        codebook_sizes: The number of codes of each codebook, K.
        groups: The codes in the order in which they are written, coarser scales before finer ones.
        grid: Rows and columns, if the codes form one grid, row by row. Marked points can then be named by its cells,
            and the code at a point can be read out.
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
        """Return codes of one codebook, one for each cell of a grid of (rows, columns)."""
        return cls(codebook_sizes=(codebook_size,), groups=(CodeGroup.on_grid(grid),), grid=grid)

    @property
    def length(self) -> int:
        """The total number of codes, L."""
        return sum(group.length for group in self.groups)


@attrs.frozen(kw_only=True)
class Continuous:
    """How a stream of special tokens is written. A head maps their hidden states to the rows that a tokenizer reads.

    Attributes:
        tokens: The name of each token, in order. Tokens with the same name share one id.
        width: The width of a row, P.
        rows: The number of rows that the tokenizer reads. None: one per token.
    """

    tokens: tuple[str, ...]
    width: int
    rows: int | None = None

    @property
    def num_rows(self) -> int:
        """The number of rows that the tokenizer reads, m."""
        return len(self.tokens) if self.rows is None else self.rows


@attrs.frozen(kw_only=True)
class StreamSpec:
    """What the model must know about a stream.

    Attributes:
        written: How it is written, as codes or as special tokens.
        per: Whether it is written once per image or once per object.
        target: What it is learned from: `"depth"`, `"masks"` (the mask of an object), `"objects"` (the masks of all
            objects of an image), `"image"` (the image itself, also for the features of a teacher), or the name of a
            map of the data folder.
        image_size: The height and width of the images whose features decoding reads. None if it reads none.
        frozen: Whether the weights of its tokenizer never train with the model and the tokenizer stays in eval mode,
            as for a teacher. A tokenizer of codes never trains with the model in any case, because its codes are the
            model's targets.
        shows_masks: Whether `shown` returns a boolean mask [H, W] at the image's size for each object. Referring
            expressions are scored with these masks.
        point_values: Whether its tokenizer can return the decoded value at any point (`values_at`).
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
        """Whether the weights of its tokenizer can train with the model."""
        return isinstance(self.written, Continuous) and not self.frozen


@attrs.frozen(kw_only=True)
class TokenSpan:
    """A contiguous run of ids."""

    start: int
    size: int

    @property
    def slice(self) -> slice:
        """The span as a slice, for `logits[..., span.slice]`."""
        return slice(self.start, self.start + self.size)

    def contains(self, ids: Tensor) -> Tensor:
        """Return a boolean tensor of which ids are in the span."""
        return (ids >= self.start) & (ids < self.start + self.size)


@attrs.frozen(kw_only=True)
class CodeSlot:
    """One input slot of a block: the code that it holds and the code that it predicts.

    Attributes:
        code: The index, 0 to L - 1, of the code that it holds.
        predicts: The index of the code that it predicts. None: it predicts no code; the last slot of a block predicts
            the closing marker.
        advances_time: Whether it is one time unit after the previous slot. Slots of one step share their time.
    """

    code: int
    predicts: int | None
    advances_time: bool


@attrs.frozen(kw_only=True, slots=False)
class TokenBlock:
    """The ids of a discrete stream: L codes that the language model writes between two markers.

    All codes of a step are predicted at once. The opening marker occupies one input slot for each code of the first
    step, and the slot of the last code predicts the closing marker. So there are always L + 2 predictions, however
    codes are grouped.

    If a step has more codes than the step before, a code of the earlier step occupies several slots, one for each
    code of the next step that is nearest to it. VAR (arXiv 2404.02905) upsamples each scale to the next in this way.

    Attributes:
        opening: The id of the marker before the codes.
        closing: The id of the marker after the codes.
        codebooks: The ids of the codes of each codebook.
        groups: The codes in the order in which they are written.
        steps: The number of codes that each step predicts.
        grid: See `Codes`.
        per: See `StreamSpec`.

    Raises:
        ValueError: The steps are not positive numbers that sum to L.
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
        """The number of codes between the markers, L."""
        return sum(group.length for group in self.groups)

    @property
    def opens_with(self) -> int:
        """The first id of the stream; a model chooses to write the stream by writing this id."""
        return self.opening

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """For each of the L codes, the id of code 0 of its codebook."""
        return tuple(
            self.codebooks[group.codebook].start for group in self.groups for _ in range(group.length)
        )

    @cached_property
    def runs(self) -> tuple[tuple[slice, TokenSpan], ...]:
        """Maximal runs of codes of one codebook: a slice of 0 to L, and the ids that may stand there."""
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
        """For each of the Y input slots, the index of the code that it holds."""
        return tuple(slot.code for step in self.slots for slot in step)

    @cached_property
    def centers(self) -> tuple[tuple[float, float] | None, ...]:
        """The position of each code on its image, as (row, column) in [0, 1]; None if it has no position."""
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
        """Return the code of a step that is nearest to code `number` of `count` in the next step.

        If codes have no positions, it is the code at the same relative place in its step.
        """
        center = self.centers[code]
        if center is None or any(self.centers[one] is None for one in step):
            return step[number * len(step) // count]
        return min(step, key=lambda one: dist(center, self.centers[one] or center))

    def spans_of_steps(self) -> Iterator[tuple[slice, TokenSpan]]:
        """Yield the slice of each step's codes in 0 to L, and the ids that may stand there."""
        first = 0
        for size in self.steps:
            span = next(span for places, span in self.runs if places.start <= first < places.stop)
            yield slice(first, first + size), span
            first += size


@attrs.frozen(kw_only=True)
class SpecialTokens:
    """The ids of a continuous stream.

    Attributes:
        ids: The ids of its tokens, in order.
        per: See `StreamSpec`.
        read_before: Whether the hidden state of each token is read at the position before it, not at the token.
    """

    ids: tuple[int, ...]
    per: Per = "image"
    read_before: bool = False

    @property
    def opens_with(self) -> int:
        """The first id of the stream; a model chooses to write the stream by writing this id."""
        return self.ids[0]


StreamTokens = TokenBlock | SpecialTokens
"""The ids of a stream."""


def steps_of(codes: Codes, codes_per_step: int | Literal["group"]) -> tuple[int, ...]:
    """Return the number of codes of each step: `codes_per_step`, which must divide every group, or a group per step.

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
