"""A stream of special tokens of an image, plain and fed back, for tests."""

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import torch
from torch import Tensor, nn

from perceptio.heads.linear import LinearHeadConfig
from perceptio.interfaces import (
    Continuous,
    Kind,
    PerceptionSpec,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    Size,
    StreamSpec,
)
from perceptio.recipe import Stream

ROWS, WIDTH = 3, 32


class MeanColors(PerceptionTokenizer):
    """Of a picture its mean color in three rows from top to bottom, each repeated to a width."""

    def __init__(self, spec: PerceptionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def targets(self, raw: Sequence[Tensor]) -> Tensor:
        colors = [nn.functional.adaptive_avg_pool2d(image, (ROWS, 1))[..., 0].T for image in raw]
        return torch.stack(colors).repeat(1, 1, WIDTH)[..., :WIDTH] if raw else torch.zeros(0, ROWS, WIDTH)

    def from_rows(
        self, rows_NmP: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        return rows_NmP * self.scale

    def target_rows(self, targets: Tensor) -> Tensor:
        return targets

    def shown(self, decoded: Tensor, sizes: Sequence[Size]) -> list[Any]:
        return list(decoded.float().cpu().numpy())


@attrs.frozen(kw_only=True)
class MeanColorsConfig(PerceptionTokenizerConfig):
    """Mean colors."""

    name: ClassVar[str] = "mean_colors"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    @property
    def spec(self) -> PerceptionSpec:
        written = Continuous(tokens=("<color>",) * ROWS, width=WIDTH)
        return PerceptionSpec(stream=StreamSpec(written=written, target="image"))

    def build(self) -> MeanColors:
        return MeanColors(self.spec)


COLORS = Stream(name="colors", tokenizer=MeanColorsConfig(), head=LinearHeadConfig())
FED_BACK = attrs.evolve(COLORS, read_at="previous_token", feedback=LinearHeadConfig())
