"""A stream of colors: a picture as a few large places, the mean color of each written as a code.

Shapes: N T pictures, L codes, K colors, h w places, H W pixels.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from perceptio.hookspecs import hookimpl
from perceptio.interfaces import CodeMeanings, Codes, Kind, PerceptionSpec, Size, StreamSpec
from perceptio.interfaces.perception import PerceptionTokenizer, PerceptionTokenizerConfig


class Palette(PerceptionTokenizer):
    """Mean colors of places, RGB [N, 3, h, w] in [0, 1], each written as the nearest of K colors."""

    def __init__(self, spec: PerceptionSpec, levels: tuple[int, int, int]) -> None:
        super().__init__()
        self.spec, self.grid = spec, spec.stream.written.grid
        middles = [(torch.arange(count) + 0.5) / count for count in levels]
        self.register_buffer("colors_K3", torch.cartesian_prod(*middles), persistent=False)

    def targets(self, raw: Sequence[Tensor]) -> Tensor:
        """The mean color of each place of each picture."""
        means = [nn.functional.adaptive_avg_pool2d(one.to(self.colors_K3), self.grid) for one in raw]
        return torch.stack(means) if means else self.colors_K3.new_zeros(0, 3, *self.grid)

    def to_codes(self, targets: Tensor) -> Tensor:
        """The nearest color of each place, row by row."""
        return torch.cdist(targets.flatten(2).mT.float(), self.colors_K3.float()).argmin(-1)

    def from_codes(self, codes_NL: Tensor, features: Any = None, image_index_N: Any = None) -> Tensor:
        """The color of each code."""
        return self.colors_K3[codes_NL].mT.unflatten(2, self.grid)

    def from_probabilities(self, probabilities: Any, features: Any = None, image_index_N: Any = None) -> Any:
        """The expected color of each place: there is one codebook, and so one tensor [N, L, K]."""
        return (probabilities[0] @ self.colors_K3.float()).mT.unflatten(2, self.grid)

    def shown(self, decoded: Tensor, sizes: Sequence[Size]) -> list[Any]:
        """Colors [H, W, 3] of the sizes of the pictures that they are about."""
        pairs = zip(decoded.float()[:, None], sizes, strict=True)
        return [nn.functional.interpolate(*pair)[0].permute(1, 2, 0).cpu().numpy() for pair in pairs]

    def code_meanings(self) -> tuple[CodeMeanings, ...]:
        """The numbers of each code's color: tokens of like colors start alike."""
        return (CodeMeanings(values_KV=self.colors_K3),)


@attrs.frozen(kw_only=True)
class PaletteConfig(PerceptionTokenizerConfig):
    """Mean colors on a grid of (rows, columns), by so many levels of red, green and blue; nothing to train."""

    name: ClassVar[str] = "mean_colors"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)
    grid: tuple[int, int] = (5, 5)
    levels: tuple[int, int, int] = (4, 4, 4)

    @property
    def spec(self) -> PerceptionSpec:
        """A code for every place, learned from the picture itself."""
        written = Codes.on_grid(math.prod(self.levels), self.grid)
        return PerceptionSpec(stream=StreamSpec(written=written, target="image"))

    def build(self) -> Palette:
        """The tokenizer."""
        return Palette(self.spec, self.levels)


@hookimpl
def register_perception_tokenizers() -> list[type[PerceptionTokenizerConfig]]:
    """What this plugin offers."""
    return [PaletteConfig]
