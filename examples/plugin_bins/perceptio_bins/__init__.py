"""A depth tokenizer that needs no training: each cell's mean depth, rounded to one of K even bins.

Shapes: B maps, L codes, K bins, C = 1 latent width, H W pixels, h w cells.
"""

from typing import ClassVar

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import RecipeError
from perceptio.hookspecs import hookimpl
from perceptio.interfaces import (
    CodebookDepthTokenizer,
    DepthConvention,
    DepthSpec,
    DepthTokenizerConfig,
    Kind,
    fill_unknown,
)


class BinsDepthTokenizer(CodebookDepthTokenizer):
    """The bin of each cell's mean depth; a bin decodes to its middle, smooth between cells."""

    def __init__(self, spec: DepthSpec) -> None:
        super().__init__()
        self.spec = spec
        middles_K = (torch.arange(spec.codebook_size) + 0.5) / spec.codebook_size
        self.register_buffer("middles_KC", middles_K[:, None])

    @property
    def codebook_KC(self) -> Tensor:
        """The middle of each bin."""
        return self.middles_KC

    @torch.no_grad()
    def encode(self, depth_B1HW: Tensor) -> Tensor:
        """The bin of each cell's mean over its pixels."""
        filled_B1HW, _ = fill_unknown(depth_B1HW)
        means_BL = F.adaptive_avg_pool2d(filled_B1HW, self.spec.grid).flatten(1)
        return (means_BL * self.spec.codebook_size).long().clamp(0, self.spec.codebook_size - 1)

    def decode_latents(self, latents_BChw: Tensor) -> Tensor:
        """Bilinear interpolation between the cells' depths."""
        return F.interpolate(latents_BChw, size=self.spec.image_size, mode="bilinear", align_corners=False)


@attrs.frozen(kw_only=True)
class BinsDepthConfig(DepthTokenizerConfig):
    """Each cell's mean depth in even bins of its convention; nothing to train."""

    name: ClassVar[str] = "bins"
    kind: ClassVar[Kind] = Kind.DEPTH
    interface: ClassVar[tuple[int, int]] = (2, 0)

    bins: int = 64
    grid: tuple[int, int] = (10, 10)
    image_size: tuple[int, int] = (80, 80)
    convention: DepthConvention = DepthConvention()

    def __attrs_post_init__(self) -> None:
        if self.bins < 2:
            raise RecipeError(f"bins/bins: bins is {self.bins}; at least 2 can tell near from far.")

    @property
    def spec(self) -> DepthSpec:
        """See `DepthTokenizerConfig.spec`."""
        return DepthSpec(
            codebook_size=self.bins, grid=self.grid, image_size=self.image_size, convention=self.convention
        )

    def build(self) -> BinsDepthTokenizer:
        """See `DepthTokenizerConfig.build`."""
        return BinsDepthTokenizer(self.spec)


@hookimpl
def register_depth_tokenizers() -> list[type[DepthTokenizerConfig]]:
    """What this plugin offers: `bins/bins`."""
    return [BinsDepthConfig]
