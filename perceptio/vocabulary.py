"""The one place where token ids are allotted: the text tokenizer's own, then everything perception adds.

And the letters by which marked points are named in text.
"""

from collections.abc import Iterator
from typing import Self

import attrs

from perceptio.interfaces import DepthSpec, SegmentationSpec, TokenBlock, TokenSpan

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Marked points are named by these, in order."""
DEPTH_START = "<depth_start>"
DEPTH_END = "<depth_end>"


@attrs.frozen(kw_only=True)
class TokenPlan:
    """Which id means what.

    Ids below `base_vocab` belong to the text tokenizer. After them come the segmentation tokenizer's special
    tokens and mask codes, the depth markers and codes, and one location token per cell of the depth grid, with
    which marked points are named.
    """

    base_vocab: int
    segmentation: tuple[int, ...] = ()
    segmentation_names: tuple[str, ...] = ()
    mask_codes: TokenSpan | None = None
    mask_length: int = 0
    depth: TokenBlock | None = None
    locations: TokenSpan
    grid: tuple[int, int]
    size: int

    @classmethod
    def of(
        cls,
        base_vocab: int,
        depth: DepthSpec | None,
        segmentation: SegmentationSpec | None,
        codes_per_step: int = 1,
        grid: tuple[int, int] = (10, 10),
    ) -> Self:
        """Allot ids for these parts; `grid` places marked points where there is no depth tokenizer."""
        next_id = base_vocab

        def span(size: int) -> TokenSpan:
            nonlocal next_id
            next_id += size
            return TokenSpan(start=next_id - size, size=size)

        names = segmentation.special_tokens if segmentation else ()
        special = tuple(span(1).start for _ in names)
        codes = segmentation.codes if segmentation else None
        mask_codes = span(codes.codebook_size) if codes else None
        block = None
        if depth is not None:
            grid = depth.grid
            opening, closing = span(1).start, span(1).start
            block = TokenBlock(
                opening=opening,
                closing=closing,
                codes=span(depth.codebook_size),
                length=depth.num_codes,
                per_step=codes_per_step,
            )
        locations = span(grid[0] * grid[1])
        return cls(
            base_vocab=base_vocab,
            segmentation=special,
            segmentation_names=tuple(names),
            mask_codes=mask_codes,
            mask_length=codes.length if codes else 0,
            depth=block,
            locations=locations,
            grid=grid,
            size=next_id,
        )

    def spans(self) -> Iterator[tuple[str, TokenSpan]]:
        """Every run of added ids by name, in order."""
        for name, start in zip(self.segmentation_names, self.segmentation, strict=True):
            yield name, TokenSpan(start=start, size=1)
        if self.mask_codes is not None:
            yield "<mask_*>", self.mask_codes
        if self.depth is not None:
            yield DEPTH_START, TokenSpan(start=self.depth.opening, size=1)
            yield DEPTH_END, TokenSpan(start=self.depth.closing, size=1)
            yield "<depth_*>", self.depth.codes
        yield "<loc_*>", self.locations

    def name_of(self, token: int) -> str | None:
        """The name of an added token; None for the text tokenizer's own ids."""
        for name, span in self.spans():
            if span.start <= token < span.start + span.size:
                return name.replace("*", str(token - span.start))
        return None

    def cell_of(self, x: float, y: float) -> int:
        """The cell, row-major, in which the point (x, y) in [0, 1] lies."""
        h, w = self.grid
        return min(int(y * h), h - 1) * w + min(int(x * w), w - 1)


def too_many_points(count: int) -> str:
    """The sentence for more points than there are letters."""
    return f"{count} points were marked and there are letters for {len(LETTERS)}; mark fewer."
