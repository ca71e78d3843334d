"""Vision encoders: images -> features with their centers, the tokens that a language model sees of an image.

Shapes: B images, M features of all images in a row, D feature width, H W pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import attrs
from torch import Tensor, nn

from perceptio.interfaces.component import ComponentConfig


@attrs.frozen(kw_only=True)
class VisionSpec:
    """Facts of a vision encoder that are known without its weights."""

    feature_dim: int
    image_size: tuple[int, int]


@attrs.frozen(kw_only=True, eq=False)
class VisionFeatures:
    """Features of several images, one after the other.

    `centers_M2` is the center of each feature on its image as (row, column) in [0, 1]; `counts` is the number of
    features of each image, in order, and sums to M.
    """

    features_MD: Tensor
    centers_M2: Tensor
    counts: tuple[int, ...]


class VisionEncoder(nn.Module, ABC):
    """Images -> features. `spec` is set in the constructor; resizing, tiling and normalizing happen inside."""

    spec: VisionSpec

    @abstractmethod
    def forward(self, images: Sequence[Tensor]) -> VisionFeatures:
        """Features of images, each RGB [3, H, W] in [0, 1] at a size of its own.

        Images are float32. An encoder whose weights are of another precision brings them to it after resizing.
        """

    @abstractmethod
    def centers(self, height: int, width: int) -> Tensor:
        """The `centers_M2` that an image of this size will have, on the CPU; their number is its token count."""


@attrs.frozen(kw_only=True)
class VisionEncoderConfig(ComponentConfig, ABC):
    """Config of a vision encoder."""

    @property
    @abstractmethod
    def spec(self) -> VisionSpec:
        """Facts known without weights."""

    @abstractmethod
    def num_features(self, height: int, width: int) -> int:
        """How many features an image of this size in pixels has."""

    @abstractmethod
    def build(self) -> VisionEncoder:
        """The encoder with random weights."""
