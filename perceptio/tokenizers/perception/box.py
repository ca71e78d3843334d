"""The box of an object as four location codes, in PaliGemma's order (arXiv 2407.07726).

Shapes: T N objects, K bins.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from torch import Tensor

from perceptio.errors import RecipeError
from perceptio.interfaces import (
    CodeGroup,
    CodeMeanings,
    Codes,
    Kind,
    PerceptionSpec,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    Size,
    StreamSpec,
    device_of,
)
from perceptio.tokenizers.perception._locations import COORDINATES, Locations, box_iou, boxes_of, pixel_box


class BoxTokenizer(PerceptionTokenizer):
    """Boxes (y_min, x_min, y_max, x_max) in [0, 1] <-> codes, without trained parameters."""

    spec: PerceptionSpec

    def __init__(self, spec: PerceptionSpec, locations: Locations) -> None:
        super().__init__()
        self.spec = spec
        self.locations = locations

    def targets(self, raw: Sequence[np.ndarray]) -> Tensor:
        """See `PerceptionTokenizer.targets`: the boxes [T, 4] of masks.

        Raises:
            DataError: A mask has no pixel.
        """
        return boxes_of(raw, [pixel_box(mask_HW) for mask_HW in raw]).to(device_of(self))

    def to_codes(self, targets: Tensor) -> Tensor:
        """See `PerceptionTokenizer.to_codes`: the nearest codes."""
        return self.locations.to_codes(targets)

    def from_codes(
        self, codes_NL: Tensor, features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_codes`: boxes [N, 4]."""
        return self.locations.to_boxes(codes_NL)

    def from_probabilities(
        self, probabilities: Sequence[Tensor], features: Any = None, image_index_N: Tensor | None = None
    ) -> Tensor:
        """See `PerceptionTokenizer.from_probabilities`: expected coordinates [N, 4]."""
        return self.locations.expected_boxes(probabilities[0])

    def shown(self, decoded: Tensor, sizes: Sequence[Size]) -> list[Any]:
        """See `PerceptionTokenizer.shown`: (x_min, y_min, x_max, y_max) in pixels of the image, as floats."""
        return [
            (x0 * width, y0 * height, x1 * width, y1 * height)
            for (y0, x0, y1, x1), (height, width) in zip(decoded.tolist(), sizes, strict=True)
        ]

    def compare(self, decoded: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """See `PerceptionTokenizer.compare`: the IoU of the boxes."""
        return {"iou": box_iou(decoded, targets)}

    def code_meanings(self) -> tuple[CodeMeanings, ...]:
        """See `PerceptionTokenizer.code_meanings`: the coordinate of each code."""
        return (CodeMeanings(values_KV=self.locations.values_K[:, None]),)


@attrs.frozen(kw_only=True)
class BoxConfig(PerceptionTokenizerConfig):
    """The box of an object, written as y_min, x_min, y_max, x_max.

    Attributes:
        bins: The number of codes per coordinate, at least 2; PaliGemma uses 1024.

    Raises:
        RecipeError: `bins` is below 2.
    """

    name: ClassVar[str] = "box"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    bins: int = 1024

    def __attrs_post_init__(self) -> None:
        if self.bins < 2:
            raise RecipeError(f"box: bins is {self.bins}; a coordinate needs at least 2.")

    @property
    def spec(self) -> PerceptionSpec:
        """See `PerceptionTokenizerConfig.spec`."""
        written = Codes(codebook_sizes=(self.bins,), groups=(CodeGroup(length=COORDINATES),))
        return PerceptionSpec(stream=StreamSpec(written=written, per="object", target="masks"))

    def build(self) -> BoxTokenizer:
        """See `PerceptionTokenizerConfig.build`."""
        return BoxTokenizer(self.spec, Locations(self.bins))
