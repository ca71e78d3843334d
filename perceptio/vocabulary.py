"""The token ids of a model: those of the text tokenizer, then all ids that perception adds. Assigned only here."""

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, Self

import attrs

from perceptio.interfaces import (
    Codes,
    SpecialTokens,
    StreamSpec,
    StreamTokens,
    TokenBlock,
    TokenSpan,
    steps_of,
)
from perceptio.setting_types import FrozenMapping

GRID = (10, 10)
"""The grid of location tokens if no stream has a grid."""

CodesPerStep = int | Literal["group"]
"""The number of codes that a step writes, or `"group"` for one group per step."""


@attrs.frozen(kw_only=True)
class TokenPlan:
    """The meaning of every token id.

    Ids below `base_vocab` belong to the text tokenizer. They are followed by

    1. the ids of each stream in turn: special tokens, or markers and codes;
    2. one location token per cell of a grid, to name marked points;
    3. one token per level, if values at marked points are written as levels.

    Attributes:
        base_vocab: The number of ids of the text tokenizer.
        streams: The ids of each stream, in the recipe's order.
        names: The name of every added id or run of ids, with `*` for the number within a run.
        locations: The location tokens, row-major over `grid`.
        grid: The rows and columns of the grid that names marked points.
        readout: The stream that has this grid and is read out or looked up at marked points; None if there is none.
        levels: The tokens of the levels, from the lowest to the highest; None if there are none.
        size: The total number of ids.
    """

    base_vocab: int
    streams: Mapping[str, StreamTokens]
    names: tuple[tuple[str, TokenSpan], ...]
    locations: TokenSpan
    grid: tuple[int, int]
    readout: str | None
    levels: TokenSpan | None
    size: int

    @classmethod
    def of(
        cls,
        base_vocab: int,
        streams: Mapping[str, tuple[StreamSpec, CodesPerStep]],
        readout: str | None = None,
        read_before: Collection[str] = (),
        levels: int = 0,
    ) -> Self:
        """Assign ids to streams in their order.

        Args:
            base_vocab: The number of ids of the text tokenizer.
            streams: The spec and the codes per step of each stream.
            readout: The stream whose grid names marked points. None: the first one that has a grid.
            read_before: The streams whose special tokens are each read at the position before them.
            levels: The number of levels for values at marked points; 0 if they are not written as levels.

        Raises:
            ValueError: The codes per step do not divide a stream's groups, or the stream `readout` has no grid.
        """
        allotted = _Allotted(base_vocab)
        tokens = {
            name: allotted.tokens_of(name, spec, codes_per_step, read_before=name in read_before)
            for name, (spec, codes_per_step) in streams.items()
        }
        grids = {
            name: one.grid
            for name, one in tokens.items()
            if isinstance(one, TokenBlock) and one.grid is not None and one.per == "image"
        }
        if readout is None:
            readout = next(iter(grids), None)
        elif readout not in grids:
            raise ValueError(f"the stream {readout!r} has no grid of codes in which points could be named.")
        grid = GRID if readout is None else grids[readout]
        locations = allotted.span("<loc_*>", grid[0] * grid[1])
        values = allotted.span("<level_*>", levels) if levels else None
        return cls(
            base_vocab=base_vocab,
            streams=FrozenMapping(tokens),
            names=tuple(allotted.names),
            locations=locations,
            grid=grid,
            readout=readout,
            levels=values,
            size=allotted.size,
        )

    @property
    def readout_block(self) -> TokenBlock:
        """The ids of the stream that is read out at marked points. Requires that there is one."""
        assert self.readout is not None
        block = self.streams[self.readout]
        assert isinstance(block, TokenBlock)
        return block

    @property
    def said_of_points(self) -> TokenSpan:
        """The ids that can be written for a marked point before an answer: levels if there are any, else codes."""
        return self.levels or self.readout_block.codebooks[0]

    def blocks(self) -> Iterator[tuple[str, TokenBlock]]:
        """Yield the name and ids of each stream that is written as codes, in order."""
        for name, tokens in self.streams.items():
            if isinstance(tokens, TokenBlock):
                yield name, tokens

    def name_of(self, token: int) -> str | None:
        """Return the name of an added token, or None for an id of the text tokenizer."""
        for name, span in self.names:
            if span.start <= token < span.start + span.size:
                return name.replace("*", str(token - span.start))
        return None

    def cell_of(self, x: float, y: float) -> int:
        """Return the row-major index of the grid cell that contains the point (x, y) in [0, 1]."""
        h, w = self.grid
        return min(int(y * h), h - 1) * w + min(int(x * w), w - 1)


def steps_in_words(block: TokenBlock) -> str:
    """Describe in words how many codes each step of a block predicts."""
    alike = len({*block.steps}) == 1
    return f"{block.steps[0]} a step" if alike else f"in steps of {', '.join(map(str, block.steps))}"


class _Allotted:
    """Assigns consecutive ids.

    Args:
        size: The first id to assign.

    Attributes:
        size: The number of ids so far, including those of the text tokenizer.
        names: The name of every id or run of ids that was assigned.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.names: list[tuple[str, TokenSpan]] = []

    def span(self, name: str, size: int = 1) -> TokenSpan:
        """Assign the next `size` ids."""
        span = TokenSpan(start=self.size, size=size)
        self.names.append((name, span))
        self.size += size
        return span

    def tokens_of(
        self, name: str, spec: StreamSpec, codes_per_step: CodesPerStep, *, read_before: bool
    ) -> StreamTokens:
        """Assign the ids of a stream: markers and codes, or special tokens.

        Raises:
            ValueError: The codes per step do not divide its groups.
        """
        written = spec.written
        if not isinstance(written, Codes):
            ids = {token: self.span(token).start for token in dict.fromkeys(written.tokens)}
            return SpecialTokens(
                ids=tuple(ids[token] for token in written.tokens), per=spec.per, read_before=read_before
            )
        opening, closing = self.span(f"<{name}_start>").start, self.span(f"<{name}_end>").start
        single = len(written.codebook_sizes) == 1
        return TokenBlock(
            opening=opening,
            closing=closing,
            codebooks=tuple(
                self.span(f"<{name}_*>" if single else f"<{name}_{number}_*>", size)
                for number, size in enumerate(written.codebook_sizes)
            ),
            groups=written.groups,
            steps=steps_of(written, codes_per_step),
            grid=written.grid,
            per=spec.per,
        )
