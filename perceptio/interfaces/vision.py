"""Vision encoders: images -> features with their centers. The language model sees each feature as one token.

Shapes: B images, M features of all images, m features of one image, D feature width, L places, H W pixels.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import InterfaceError
from perceptio.interfaces.component import ComponentConfig, described


@attrs.frozen(kw_only=True)
class VisionSpec:
    """Facts about a vision encoder that are known without its weights.

    Attributes:
        feature_dim: The width of its features, D.
        image_size: The height and width in pixels to which it resizes an image or a tile. If the size depends on the
            image, this is the nominal one.
    """

    feature_dim: int
    image_size: tuple[int, int]


@attrs.frozen(kw_only=True, eq=False)
class VisionFeatures:
    """The features of several images, one after another.

    Attributes:
        features_MD: The features.
        centers_M2: The center of each feature on its image, as (row, column) in [0, 1].
        counts: The number of features of each image, in order; they sum to M.
    """

    features_MD: Tensor
    centers_M2: Tensor
    counts: tuple[int, ...]

    @classmethod
    def joined(cls, features: Sequence["VisionFeatures"]) -> "VisionFeatures":
        """Concatenate the features of several batches of images."""
        return cls(
            features_MD=torch.cat([one.features_MD for one in features]),
            centers_M2=torch.cat([one.centers_M2 for one in features]),
            counts=tuple(count for one in features for count in one.counts),
        )

    def each(self) -> list["VisionFeatures"]:
        """Return the features of each image separately, as copies: a view would keep all features in memory."""
        counts = list(self.counts)
        parts = zip(torch.split(self.features_MD, counts), torch.split(self.centers_M2, counts), strict=True)
        return [
            VisionFeatures(features_MD=rows_mD.clone(), centers_M2=centers_m2.clone(), counts=(len(rows_mD),))
            for rows_mD, centers_m2 in parts
        ]

    def nearest_to(self, centers_L2: Tensor) -> Tensor:
        """For each image and place, return the index [B, L] of the nearest feature; the first one if several tie.

        Args:
            centers_L2: The (row, column) of each place, in [0, 1].

        Returns:
            Indices into all M features.
        """
        nearest, start = [], 0
        for centers_m2 in torch.split(self.centers_M2, list(self.counts)):
            nearest.append(start + torch.cdist(centers_L2.to(centers_m2), centers_m2).argmin(1))
            start += len(centers_m2)
        return torch.stack(nearest)


class VisionEncoder(nn.Module, ABC):
    """Images -> features. A subclass sets `spec` in its constructor; `forward` resizes, tiles and normalizes."""

    spec: VisionSpec

    @abstractmethod
    def forward(self, images: Sequence[Tensor]) -> VisionFeatures:
        """Return the features of images, each float32 RGB [3, H, W] in [0, 1] at its own size.

        An encoder whose weights have another precision converts images to it after resizing. The centers must equal
        those that `VisionEncoderConfig.centers` returns for images of these sizes.
        """


def _checked(centers: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Check the result of `VisionEncoderConfig.centers`."""

    @functools.wraps(centers)
    def checked(self: "VisionEncoderConfig", height: int, width: int) -> Tensor:
        made = centers(self, height, width)
        if (problem := _problem(made)) is not None:
            raise InterfaceError(
                f"{self.name}: centers made {problem} of {height}x{width} pixels; it must make (row, column) "
                "in [0, 1] for each feature: floating-point [M, 2], on the CPU."
            )
        return made

    return checked


def _problem(made: object) -> str | None:
    """Say why a value is not valid centers; None if it is valid."""
    if not isinstance(made, Tensor) or made.shape[1:] != (2,) or not made.is_floating_point():
        return described(made)
    if made.device.type != "cpu":
        return f"a tensor on {made.device}"
    return None if bool(((made >= 0) & (made <= 1)).all()) else "numbers outside [0, 1]"


@attrs.frozen(kw_only=True)
class VisionEncoderConfig(ComponentConfig, ABC):
    """Config of a vision encoder.

    The config, not the encoder, says how many features an image has and where they are. Data loading writes
    conversations from it without building the encoder.
    """

    @classmethod
    def __attrs_init_subclass__(cls) -> None:
        """Wrap `centers` in its check if this class itself defines it."""
        if "centers" in cls.__dict__:
            cls.centers = _checked(cls.__dict__["centers"])  # type: ignore[method-assign]

    @property
    @abstractmethod
    def spec(self) -> VisionSpec:
        """Facts about the encoder that are known without its weights."""

    @abstractmethod
    def centers(self, height: int, width: int) -> Tensor:
        """Return the centers of the features of an image of this size: its `VisionFeatures.centers_M2`.

        The result of every implementation is checked.

        Args:
            height: The height of the image in pixels.
            width: The width of the image in pixels.

        Returns:
            The (row, column) of each feature's center in [0, 1], floating-point [M, 2] on the CPU. The same at every
            call.

        Raises:
            InterfaceError: The implementation returned something else.
        """

    def num_features(self, height: int, width: int) -> int:
        """Return the number of features of an image of this size in pixels."""
        return len(self.centers(height, width))

    @abstractmethod
    def build(self) -> VisionEncoder:
        """Build the encoder with random weights."""
