"""Vision encoders: images -> features with their centers, the tokens that a language model sees of an image.

Shapes: B images, M features of all images in a row, m of one, D feature width, L places, H W pixels.
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

    @classmethod
    def joined(cls, features: Sequence["VisionFeatures"]) -> "VisionFeatures":
        """The features of several batches of images, one after the other."""
        return cls(
            features_MD=torch.cat([one.features_MD for one in features]),
            centers_M2=torch.cat([one.centers_M2 for one in features]),
            counts=tuple(count for one in features for count in one.counts),
        )

    def each(self) -> list["VisionFeatures"]:
        """The features of each image for itself, as copies: a view would keep those of all the others."""
        counts = list(self.counts)
        parts = zip(torch.split(self.features_MD, counts), torch.split(self.centers_M2, counts), strict=True)
        return [
            VisionFeatures(features_MD=rows_mD.clone(), centers_M2=centers_m2.clone(), counts=(len(rows_mD),))
            for rows_mD, centers_m2 in parts
        ]

    def nearest_to(self, centers_L2: Tensor) -> Tensor:
        """Index into all features [B, L] of the one nearest to each place; the first of equally near ones.

        Args:
            centers_L2: (row, column) of each place, in [0, 1].
        """
        nearest, start = [], 0
        for centers_m2 in torch.split(self.centers_M2, list(self.counts)):
            nearest.append(start + torch.cdist(centers_L2.to(centers_m2), centers_m2).argmin(1))
            start += len(centers_m2)
        return torch.stack(nearest)


class VisionEncoder(nn.Module, ABC):
    """Images -> features. `spec` is set in the constructor; resizing, tiling and normalizing happen inside."""

    spec: VisionSpec

    @abstractmethod
    def forward(self, images: Sequence[Tensor]) -> VisionFeatures:
        """Features of images, each RGB [3, H, W] in [0, 1] at a size of its own.

        Images are float32. An encoder whose weights are of another precision brings them to it after resizing. The
        centers are those that its config says of images of these sizes.
        """


def _checked(centers: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Hold what `VisionEncoderConfig.centers` makes to the interface."""

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
    """Why something is no centers."""
    if not isinstance(made, Tensor) or made.shape[1:] != (2,) or not made.is_floating_point():
        return described(made)
    if made.device.type != "cpu":
        return f"a tensor on {made.device}"
    return None if bool(((made >= 0) & (made <= 1)).all()) else "numbers outside [0, 1]"


@attrs.frozen(kw_only=True)
class VisionEncoderConfig(ComponentConfig, ABC):
    """Config of a vision encoder.

    How many tokens an image has, and where on it each lies, is known without the encoder: conversations are written
    wherever data are loaded.
    """

    @classmethod
    def __attrs_init_subclass__(cls) -> None:
        """Put the check around `centers` where this class itself defines it."""
        if "centers" in cls.__dict__:
            cls.centers = _checked(cls.__dict__["centers"])  # type: ignore[method-assign]

    @property
    @abstractmethod
    def spec(self) -> VisionSpec:
        """Facts known without weights."""

    @abstractmethod
    def centers(self, height: int, width: int) -> Tensor:
        """Where the features of an image of this size lie: the `VisionFeatures.centers_M2` that it will have.

        What a config makes is checked where it is made, whoever wrote it.

        Args:
            height: Of the image, in pixels.
            width: Of the image, in pixels.

        Returns:
            (row, column) of each feature's center, in [0, 1]: floating-point [M, 2] on the CPU, the same at every
            call.

        Raises:
            InterfaceError: It made something else.
        """

    def num_features(self, height: int, width: int) -> int:
        """How many features an image of this size in pixels has."""
        return len(self.centers(height, width))

    @abstractmethod
    def build(self) -> VisionEncoder:
        """The encoder with random weights."""
