"""A small convolutional vision encoder: the image is resized to a fixed size, and each cell gives one feature.

Shapes: B images, M features of all images, D feature width, H W pixels, h w cells.
"""

from collections.abc import Sequence
from typing import ClassVar

import attrs
import torch
from torch import Tensor, nn

from perceptio.errors import RecipeError
from perceptio.interfaces import Kind, VisionEncoder, VisionEncoderConfig, VisionFeatures, VisionSpec
from perceptio.ops.images import cell_centers, stack_resized
from perceptio.ops.precision import brought_to
from perceptio.ops.rms_norm import RMSNorm


class ChannelNorm(RMSNorm):
    """RMSNorm over the channels of each cell, which preserves the overall brightness and haze of an image."""

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """Return the normalized features."""
        return super().forward(x_BDhw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """A norm and two 3x3 convolutions, added to their input."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ChannelNorm(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """Return the output of the block, with the shape of its input."""
        return x_BDhw + self.layers(x_BDhw)


class ConvEncoder(VisionEncoder):
    """Halvings of the resolution, each with a residual block, then dilated blocks for a larger receptive field."""

    def __init__(
        self, spec: VisionSpec, cells: tuple[int, int], widths: Sequence[int], dilations: Sequence[int]
    ) -> None:
        super().__init__()
        self.spec = spec
        self.cells = cells
        layers: list[nn.Module] = []
        for narrow, wide in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), ResidualBlock(wide)]
        self.layers = nn.Sequential(*layers, *(ResidualBlock(widths[-1], dilation) for dilation in dilations))

    def forward(self, images: Sequence[Tensor]) -> VisionFeatures:
        """See `VisionEncoder.forward`; every image is resized to `spec.image_size`."""
        pixels_B3HW = brought_to(self, stack_resized(images, self.spec.image_size))
        centered = (pixels_B3HW * 2 - 1).contiguous(memory_format=torch.channels_last)
        features_BMD = self.layers(centered).flatten(2).transpose(1, 2)
        centers_M2 = cell_centers(*self.cells).to(features_BMD.device)
        return VisionFeatures(
            features_MD=features_BMD.flatten(0, 1),
            centers_M2=centers_M2.repeat(len(images), 1),
            counts=(len(centers_M2),) * len(images),
        )


@attrs.frozen(kw_only=True)
class ConvVisionConfig(VisionEncoderConfig):
    """A small convolutional encoder, trained from random weights.

    Attributes:
        image_size: The (height, width) to which images are resized, multiples of 2 ** len(widths).
        widths: The number of channels after each halving; the last one is the width of a feature.
        dilations: The dilations of the residual blocks after the last halving.

    Raises:
        RecipeError: A size is invalid, or the sizes do not fit together.
    """

    name: ClassVar[str] = "conv"
    kind: ClassVar[Kind] = Kind.VISION
    interface: ClassVar[tuple[int, int]] = (2, 0)

    image_size: tuple[int, int] = (80, 80)
    widths: tuple[int, ...] = (24, 48, 96)
    dilations: tuple[int, ...] = (2, 4)

    def __attrs_post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or (self.dilations and min(self.dilations) < 1):
            raise RecipeError(
                f"conv: widths are {self.widths} and dilations {self.dilations}; give one or more widths, "
                "all above 0."
            )
        if any(side < self.stride or side % self.stride for side in self.image_size):
            raise RecipeError(
                f"conv: image_size {self.image_size} must be a multiple of {self.stride} on both sides, for "
                f"{len(self.widths)} widths halve it as many times."
            )

    @property
    def stride(self) -> int:
        """The side of a cell in pixels."""
        return 2 ** len(self.widths)

    @property
    def spec(self) -> VisionSpec:
        """See `VisionEncoderConfig.spec`."""
        return VisionSpec(feature_dim=self.widths[-1], image_size=self.image_size)

    @property
    def cells(self) -> tuple[int, int]:
        """The rows and columns of features."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride

    def centers(self, height: int, width: int) -> Tensor:
        """See `VisionEncoderConfig.centers`: cell centers, row by row, for images of any size."""
        return cell_centers(*self.cells)

    def build(self) -> ConvEncoder:
        """See `VisionEncoderConfig.build`."""
        return ConvEncoder(self.spec, self.cells, self.widths, self.dilations)
