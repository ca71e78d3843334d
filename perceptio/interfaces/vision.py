"""Vision encoders: images -> features with their centers, the tokens that a language model sees of an image.

Shapes: B images, M features of all images in a row, D feature width, H W pixels.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from torch import Tensor

from perceptio.errors import InterfaceError
from perceptio.interfaces.component import CheckedModule, ComponentConfig, described


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


def _checked_centers(centers: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Hold what `centers` makes to the interface."""

    @functools.wraps(centers)
    def checked(self: Any, height: int, width: int) -> Tensor:
        made = centers(self, height, width)
        said: str | None
        if (
            not isinstance(made, Tensor)
            or made.ndim != 2
            or made.shape[1] != 2
            or not made.is_floating_point()
        ):
            said = described(made)
        elif made.device.type not in ("cpu", "meta"):
            said = f"a tensor on {made.device}"
        else:
            # Through numpy: on the CPU nothing is waited for.
            values_M2 = made.detach().float().numpy() if made.device.type == "cpu" else np.zeros((1, 2))
            said = None if ((values_M2 >= 0) & (values_M2 <= 1)).all() else "numbers outside [0, 1]"
        if said is not None:
            raise InterfaceError(
                f"{self.known_as}.centers made {said} of {height}x{width} pixels; it must make (row, column) "
                "in [0, 1] for each feature: floating-point [M, 2], on the CPU."
            )
        return made

    return checked


class VisionEncoder(CheckedModule, ABC):
    """Images -> features. `spec` is set in the constructor; resizing, tiling and normalizing happen inside."""

    spec: VisionSpec

    checks: ClassVar[Mapping[str, Callable[..., Any]]] = {"centers": _checked_centers}

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
