"""The one place where token ids are allotted: the text tokenizer's own, then everything perception adds."""

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
"""Of location tokens, where no stream has a grid."""

CodesPerStep = int | Literal["group"]
"""How many codes a step writes: a number, or each group at once."""


@attrs.frozen(kw_only=True)
class TokenPlan:
    """Which id means what.

    Ids below `base_vocab` belong to the text tokenizer. After them come, stream by stream, special tokens, or markers
    and codes; then one location token per place of a grid, with which marked points are named; and at last, where
    values at marked points are said in levels of their own, a token for each.

    Attributes:
        base_vocab: How many ids the text tokenizer has.
        streams: The ids of each stream, in the recipe's order.
        names: The name of every id or run of ids that is added, with `*` for the number in a run.
        locations: The location tokens, row-major over `grid`.
        grid: Rows and columns in which marked points are named.
        readout: The stream whose grid this is, and that is read out or looked up at marked points; None: none can be.
        levels: The tokens of values at marked points, the lowest first and the highest last; None: there are none.
        size: How many ids there are in all.
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
        """Allot ids for streams in their order.

        Args:
            base_vocab: How many ids the text tokenizer has.
            streams: How each is written, and its codes per step.
            readout: The stream in whose grid marked points are named; None: the first that has one.
            read_before: The streams whose special tokens are read each at the token before it.
            levels: How many levels values at marked points have; 0: they are not said in levels.

        Raises:
            ValueError: Codes per step do not divide a stream's groups, or the named stream has no grid.
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
        """The ids of the stream that is read out at marked points; there must be one."""
        assert self.readout is not None
        block = self.streams[self.readout]
        assert isinstance(block, TokenBlock)
        return block

    @property
    def said_of_points(self) -> TokenSpan:
        """The ids of what is said of a marked point before an answer: its level, or else its code."""
        return self.levels or self.readout_block.codebooks[0]

    def blocks(self) -> Iterator[tuple[str, TokenBlock]]:
        """The streams that are written as codes, in order."""
        for name, tokens in self.streams.items():
            if isinstance(tokens, TokenBlock):
                yield name, tokens

    def name_of(self, token: int) -> str | None:
        """The name of an added token; None for the text tokenizer's own ids."""
        for name, span in self.names:
            if span.start <= token < span.start + span.size:
                return name.replace("*", str(token - span.start))
        return None

    def cell_of(self, x: float, y: float) -> int:
        """The place on the grid, row-major, in which the point (x, y) in [0, 1] lies."""
        h, w = self.grid
        return min(int(y * h), h - 1) * w + min(int(x * w), w - 1)


def steps_in_words(block: TokenBlock) -> str:
    """How many codes the steps of a block predict, for people."""
    alike = len({*block.steps}) == 1
    return f"{block.steps[0]} a step" if alike else f"in steps of {', '.join(map(str, block.steps))}"


class _Allotted:
    """Ids that are given out one after the other.

    Args:
        size: The first of them.

    Attributes:
        size: How many ids there are so far, those of the text tokenizer included.
        names: The name of every id or run of ids that was given out.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.names: list[tuple[str, TokenSpan]] = []

    def span(self, name: str, size: int = 1) -> TokenSpan:
        """The next ids."""
        span = TokenSpan(start=self.size, size=size)
        self.names.append((name, span))
        self.size += size
        return span

    def tokens_of(
        self, name: str, spec: StreamSpec, codes_per_step: CodesPerStep, *, read_before: bool
    ) -> StreamTokens:
        """The ids of a stream: markers and codes, or special tokens.

        Raises:
            ValueError: Codes per step do not divide its groups.
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
